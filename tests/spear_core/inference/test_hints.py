"""What a hint says, as people type it."""

from __future__ import annotations

import pytest

from spear_core.inference.hint_words import known_word
from spear_core.inference.hints import HintKind, read_hint
from spear_core.inference.letter_case import case_variants

CAPITAL = "What is the capital of Norway?"


@pytest.mark.parametrize(
    ("hint", "answer", "rejected"),
    [
        ("no, oslo", "oslo", ""),
        ("Oslo.", "Oslo", ""),
        ("it's Oslo, not Bergen", "Oslo", "Bergen"),
        ("its oslo not bergen", "oslo", "bergen"),
        ("not bergen but oslo", "oslo", "bergen"),
        ("no not bergen, oslo", "oslo", "bergen"),
        ("Oslo instead of Bergen", "Oslo", "Bergen"),
        ("teh answer is oslo", "oslo", ""),
        ("it shoud be oslo", "oslo", ""),
        ("That is wrong. The answer is Oslo.", "Oslo", ""),
        ("The correct answer is Oslo, you know", "Oslo", ""),
        ("Oslo is the right answer", "Oslo", ""),
        ("oslo obviously!!", "oslo", ""),
        ("the capital of norway is oslo", "oslo", ""),
        ("norways capital is oslo", "oslo", ""),
        ("Oslo is the capital", "Oslo", ""),
        ("i think you mean oslo", "oslo", ""),
        ("I don't think that's right. Oslo", "Oslo", ""),
        ("no, 1976", "1976", ""),
        ("James Callaghan (1912-2005)", "James Callaghan (1912-2005)", ""),
        ("it's Carlos Alan Autry Jr.", "Carlos Alan Autry Jr.", ""),
        ("$5", "$5", ""),
        ("no, they were discovered by him", "they were discovered by him", ""),
        ("it's Bergen", "Bergen", ""),
        ("it is eleven", "eleven", ""),
        ("it was written by him", "it was written by him", ""),
    ],
)
def test_a_stated_answer_is_found_in_the_persons_own_words(hint: str, answer: str, rejected: str) -> None:
    found = read_hint(hint, CAPITAL)
    assert (found.kind, found.answer, found.rejected) == (HintKind.STATES, answer, rejected)


@pytest.mark.parametrize(
    ("hint", "answer", "rejected"),
    [
        ("three is right", "three", ""),
        ("on Tuesday rather than Monday", "on Tuesday", "Monday"),
        ("palace is the right answer", "palace", ""),
        ("bright is the right answer", "bright", ""),
        ("quiet", "quiet", ""),
        ("no, Wong", "Wong", ""),
        ("gain is what I meant", "gain", ""),
        ("rally", "rally", ""),
        ("well done", "well done", ""),
        ("well, oslo", "oslo", ""),
        ("realy it's oslo", "oslo", ""),
    ],
)
def test_a_word_of_its_own_is_not_read_as_a_typing_mistake(hint: str, answer: str, rejected: str) -> None:
    found = read_hint(hint, "What did I say?")
    assert (found.kind, found.answer, found.rejected) == (HintKind.STATES, answer, rejected)


@pytest.mark.parametrize(
    "word", ["three", "than", "thin", "meat", "quit", "palace", "lace", "bought", "rights", "tank"]
)
def test_common_words_keep_their_spelling(word: str) -> None:
    assert known_word(word) == word


@pytest.mark.parametrize(
    ("typed", "word"), [("teh", "the"), ("shoud", "should"), ("wrogn", "wrong"), ("thnik", "think")]
)
def test_a_typing_mistake_is_read_as_the_word(typed: str, word: str) -> None:
    assert known_word(typed) == word


@pytest.mark.parametrize(
    ("hint", "answer", "rejected"),
    [
        ("it's not Dr. Braun, it's Dr. Meier", "Dr. Meier", "Dr. Braun"),
        ("not Mr. Hill, Mrs. Hill", "Mrs. Hill", "Mr. Hill"),
        ("not dr. braun but prof. meier", "prof. meier", "dr. braun"),
        ("not Prof. J. Hill. Mrs. Hill", "Mrs. Hill", "Prof. J. Hill"),
        ("not St. Gallen, Bern", "Bern", "St. Gallen"),
        ("not 42. 43", "43", "42"),
        ("that's Dr. Hill, the head of our lab", "Dr. Hill, the head of our lab", ""),
    ],
)
def test_no_clause_ends_after_a_title_or_an_initial(hint: str, answer: str, rejected: str) -> None:
    found = read_hint(hint, "Who is my doctor?")
    assert (found.kind, found.answer, found.rejected) == (HintKind.STATES, answer, rejected)


@pytest.mark.parametrize(
    ("hint", "question", "answer"),
    [
        ("cats do not like water", "What do cats do when it rains?", "cats do not like water"),
        ("I am not married", "Am I married?", "I am not married"),
        ("No, I am not married", "Who am I married to?", "I am not married"),
        ("she does not eat meat", "What does my sister eat?", "she does not eat meat"),
        ("she is not married", "Who is my sister married to?", "she is not married"),
        ("he's not at work", "Where is my father?", "he's not at work"),
        ("you should not freeze cheese", "How do I keep cheese?", "you should not freeze cheese"),
        ("because you do not water it", "Why does my plant die?", "because you do not water it"),
        ("it's not watered enough", "Why does my plant die?", "it's not watered enough"),
        ("I'm really not sure", "When do I leave?", "I'm really not sure"),
        ("we usually do not lock it", "Where do we keep the key?", "we usually do not lock it"),
        ("she decided not to go", "What did my sister decide?", "she decided not to go"),
        ("it's not before 9", "When do I leave?", "it's not before 9"),
        ("No, it's not a secret", "What is my cat called?", "it's not a secret"),
        ("Pluto is not a planet", "Is Pluto a planet?", "Pluto is not a planet"),
    ],
)
def test_a_negative_statement_is_kept_whole(hint: str, question: str, answer: str) -> None:
    found = read_hint(hint, question)
    assert (found.kind, found.answer, found.rejected) == (HintKind.STATES, answer, "")


@pytest.mark.parametrize(
    ("hint", "answer", "rejected"),
    [
        ("it is Oslo, not Bergen", "Oslo", "Bergen"),
        ("Oslo not Bergen", "Oslo", "Bergen"),
        ("Oslo and not Bergen", "Oslo", "Bergen"),
        ("the train to Oslo not to Bergen", "the train to Oslo", "to Bergen"),
        ("it's really Oslo not Bergen", "Oslo", "Bergen"),
        ("cats do not like water, not even to drink", "cats do not like water", "even to drink"),
    ],
)
def test_what_is_rejected_is_cut_off(hint: str, answer: str, rejected: str) -> None:
    found = read_hint(hint, CAPITAL)
    assert (found.kind, found.answer, found.rejected) == (HintKind.STATES, answer, rejected)


@pytest.mark.parametrize(
    "hint", ["it's not Bergen", "No, it is not Bergen.", "the capital is not Bergen", "not Bergen"]
)
def test_what_the_answer_is_not_states_none(hint: str) -> None:
    found = read_hint(hint, CAPITAL)
    assert (found.kind, found.answer, found.rejected) == (HintKind.OBJECTS, "", "Bergen")


@pytest.mark.parametrize(
    ("hint", "answer", "rejected"),
    [
        ("I told you it's Oslo", "Oslo", ""),
        ("I already told you it's Oslo", "Oslo", ""),
        ("I said Oslo", "Oslo", ""),
        ("as I said, it's Oslo", "Oslo", ""),
        ("no, like I said before, Oslo", "Oslo", ""),
        ("I've already told you that it's Oslo", "Oslo", ""),
        ("it's Oslo, as I said", "Oslo", ""),
        ("Oslo, I told you", "Oslo", ""),
        ("Bergen is wrong, it's Oslo", "Oslo", "Bergen"),
        ("Bergen isn't right. Oslo", "Oslo", "Bergen"),
        ("it isn't Bergen, it's Oslo", "Oslo", "Bergen"),
        ("it wasn't Bergen but Oslo", "Oslo", "Bergen"),
        ("the capital isn't Bergen, it's Oslo", "Oslo", "Bergen"),
        ("the capital is not Bergen, it is Oslo", "Oslo", "Bergen"),
        ("not Bergen, I think it's Oslo", "Oslo", "Bergen"),
        ("its not bergen its oslo", "oslo", "bergen"),
        ("I don't think it's Bergen, it's Oslo", "Oslo", "Bergen"),
        ("wrong date, it's May 5", "May 5", ""),
        ("that's the wrong date, it's May 5", "May 5", ""),
        ("that's not the right year, it's 1905", "1905", ""),
        ("the year is wrong, it's 1905", "1905", ""),
        ("you got the year wrong, it's 1905", "1905", ""),
        ("wrong name, it's Luna", "Luna", ""),
        ("Oslo, right?", "Oslo", ""),
        ("it's Oslo, isn't it?", "Oslo", ""),
        ("turn left, then right", "turn left, then right", ""),
    ],
)
def test_the_answer_is_given_without_the_objection(hint: str, answer: str, rejected: str) -> None:
    found = read_hint(hint, CAPITAL)
    assert (found.kind, found.answer, found.rejected) == (HintKind.STATES, answer, rejected)


@pytest.mark.parametrize(
    ("hint", "question", "answer"),
    [
        ("it was Manet who painted it", "Who painted Olympia?", "Manet"),
        ("it's the man who lives next door", "Who painted Olympia?", "the man who lives next door"),
        ("I said yes", "What did I say to the offer?", "I said yes"),
        ("I told you my secret", "What did I tell you?", "I told you my secret"),
        ("he isn't a doctor, he's a nurse", "What is my father's job?", "a nurse"),
        ("he's not a doctor, he's a nurse", "What is my father's job?", "a nurse"),
        ("because it is not ripe, wait a week", "Why is my pear hard?", "because it is not ripe, wait a week"),
        (
            "Pluto isn't a planet, it's a dwarf planet",
            "Is Pluto a planet?",
            "Pluto isn't a planet, it's a dwarf planet",
        ),
    ],
)
def test_what_belongs_to_the_answer_stays(hint: str, question: str, answer: str) -> None:
    found = read_hint(hint, question)
    assert (found.kind, found.answer) == (HintKind.STATES, answer)


@pytest.mark.parametrize(
    "hint",
    ["Bergen is wrong", "no, Bergen is not right", "it isn't Bergen", "not Bergen, sorry", "I don't think it's Bergen"],
)
def test_what_is_wrong_states_no_answer(hint: str) -> None:
    found = read_hint(hint, CAPITAL)
    assert (found.kind, found.answer, found.rejected) == (HintKind.OBJECTS, "", "Bergen")


@pytest.mark.parametrize(
    "hint",
    ["no", "No!", "wrong city", "that's wrong", "that's not the right year", "nope", "you forgot the date", "..."],
)
def test_an_objection_states_nothing(hint: str) -> None:
    assert read_hint(hint, CAPITAL).kind is HintKind.OBJECTS


@pytest.mark.parametrize(
    "hint",
    ["shorter", "in French please", "make it more formal", "it's too long", "mention the deadline", "use simpler words",
     "as a list", "without emojis", "a bit longer", "can you make it funnier?", "don't use jargon", "more details please"],
)  # fmt: skip
def test_a_wish_for_another_form_is_not_an_answer_to_copy(hint: str) -> None:
    assert read_hint(hint, CAPITAL).kind is HintKind.ASKS


@pytest.mark.parametrize("question", [CAPITAL, "Write an email to my landlord.", ""])
@pytest.mark.parametrize(
    "hint",
    ["a bit shorter please", "I need it shorter", "I want it to be shorter", "I want you to write in French", "I'd like more details",
     "please use simpler words", "more formal", "use bullet points", "in German", "call me Tom", "be nicer", "be nice",
     "way too long", "could be shorter", "a short answer please", "short and simple", "more about the history",
     "simpler than that", "list the dates", "a list please", "answer in French", "sound more professional", "don't repeat yourself",
     "it should sound friendlier", "not so formal", "that's too technical", "shorter, please", "can it be shorter",
     "can you list its rivers",
     "more maps please", "I need an answer in German", "say it in simpler words"],
)  # fmt: skip
def test_a_request_stays_one_whatever_was_asked(hint: str, question: str) -> None:
    assert read_hint(hint, question).kind is HintKind.ASKS


@pytest.mark.parametrize(
    ("hint", "question", "answer"),
    [
        ("I start at 9", "When do I start work?", "I start at 9"),
        ("I use a Mac", "Which computer do I use?", "I use a Mac"),
        ("No, I use a Mac.", "Which computer do I use?", "I use a Mac"),
        ("I speak Spanish", "Which language do I speak?", "I speak Spanish"),
        ("I leave at 7:30", "When do I leave?", "I leave at 7:30"),
        ("leave at 7:30", "When do I leave?", "leave at 7:30"),
        ("I keep it under the mat", "Where do I keep my key?", "I keep it under the mat"),
        ("I write novels", "What do I do for a living?", "I write novels"),
        ("I call her Nana", "What do I call my grandmother?", "I call her Nana"),
        ("I don't have a dog", "What is my dog called?", "I don't have a dog"),
        ("I need more milk", "What do I need from the shop?", "I need more milk"),
        ("I want to write novels", "What do I want to do?", "I want to write novels"),
        ("name is Luna", "What is my cat called?", "Luna"),
        ("name: Luna", "What is my cat called?", "Luna"),
        ("address is 12 High Street", "What is my address?", "12 High Street"),
        ("dry white wine", "What is my favourite drink?", "dry white wine"),
        ("a cold beer", "What do I drink after work?", "a cold beer"),
        ("dry", "Is my favourite wine dry or sweet?", "dry"),
        ("personal trainer", "What is my job?", "personal trainer"),
        ("sound engineer", "What is my job?", "sound engineer"),
        ("Nice", "Where does my aunt live?", "Nice"),
        ("it's Nice", "Where does my aunt live?", "Nice"),
        ("more than 50", "How many books do I have?", "more than 50"),
        ("less than 10 euros", "How much is the ticket?", "less than 10 euros"),
        ("older than 30", "How old is my boss?", "older than 30"),
        ("brown bread and less salt", "What did my doctor recommend?", "brown bread and less salt"),
        ("call me Tom", "What is my name?", "Tom"),
        ("in German", "Which language do I dream in?", "in German"),
        ("two words", "How many words are in my motto?", "two words"),
        ("end of May", "When is my exam?", "end of May"),
        ("in French Guiana", "Where does my aunt live?", "in French Guiana"),
    ],
)
def test_an_everyday_statement_is_no_request(hint: str, question: str, answer: str) -> None:
    found = read_hint(hint, question)
    assert (found.kind, found.answer) == (HintKind.STATES, answer)


@pytest.mark.parametrize(
    "hint",
    ["I start at 9", "I use a Mac", "I speak Spanish", "I keep it under the mat", "I call her Nana", "name is Luna",
     "dry white wine", "a cold beer", "personal trainer", "more than 50", "less than 10 euros"],
)  # fmt: skip
def test_some_statements_need_no_question(hint: str) -> None:
    assert read_hint(hint).kind is HintKind.STATES


@pytest.mark.parametrize(
    "hint", ["it starts with O", "a word of 5 letters", "there is a letter f in it", "think of the fjord"]
)
def test_a_clue_is_not_an_answer_to_copy(hint: str) -> None:
    assert read_hint(hint, CAPITAL).kind is HintKind.POINTS


def test_a_sentence_about_the_question_is_kept_whole_beside_its_answer() -> None:
    found = read_hint("that's wrong, my sister is called Ana", "What is my sister's name?")
    assert (found.answer, found.statement) == ("Ana", "my sister is called Ana")
    assert read_hint("no, oslo", CAPITAL).statement == ""


def test_of_a_yes_or_no_question_the_no_belongs_to_the_answer() -> None:
    assert read_hint("no, but they can mimic speech", "Can parrots talk?").answer == "no, but they can mimic speech"
    assert read_hint("no, they can mimic speech", "What can parrots do?").answer == "they can mimic speech"


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("eddie shah", ["eddie shah", "Eddie Shah"]),
        ("YVONNE FLETCHER", ["YVONNE FLETCHER", "Yvonne Fletcher", "yvonne fletcher"]),
        ("Eddie Shah", ["Eddie Shah"]),
        ("mr. keller", ["mr. keller", "Mr. Keller"]),  # the full stop ends no sentence
        ("in ulm", ["in ulm", "in Ulm"]),
        ("bluewhale42", ["bluewhale42"]),  # a password is as it is
        ("NASA", ["NASA"]),
        ("1976", ["1976"]),
        ("because air scatters blue light", ["because air scatters blue light"]),  # no name
        ("you stir it with hot stock", ["you stir it with hot stock"]),
    ],
)
def test_names_are_offered_as_names_are_written(typed: str, written: list[str]) -> None:
    assert case_variants(typed) == written


def test_a_very_long_hint_is_read_in_no_time() -> None:
    assert read_hint("no, " * 50_000 + "oslo", CAPITAL).kind in HintKind


@pytest.mark.parametrize(
    ("hint", "question", "answer"),
    [
        ("you forgot, I go on Tuesdays", "Which day do I go swimming?", "Tuesdays"),
        ("not Titanic, its Spirited Away", "What is my favourite film?", "Spirited Away"),
        ("it's Frozen", "What is my favourite film?", "Frozen"),
        ("theres no dress code", "What is the dress code?", "there's no dress code"),
        ("about 6, you said 8", "How many hours do I sleep?", "about 6"),
        ("better, he's out of hospital", "How's my dad doing?", "better, he's out of hospital"),
    ],
)
def test_the_fact_beside_a_complaint_or_a_title_is_kept(hint: str, question: str, answer: str) -> None:
    found = read_hint(hint, question)
    assert (found.kind, found.answer) == (HintKind.STATES, answer)


@pytest.mark.parametrize("hint", ["you didn't answer, I asked about Rome", "you forgot to halve it, that one is 12"])
def test_a_complaint_that_goes_on_states_nothing(hint: str) -> None:
    assert read_hint(hint, "What is the capital of Italy?").kind is HintKind.OBJECTS
