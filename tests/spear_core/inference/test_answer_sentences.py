"""Sentences that say a stated answer: the words around it come from the reply or the question."""

from __future__ import annotations

import pytest

from spear_core.inference import answer_sentences as sentences
from spear_core.inference import question_sentences, sentence_parts


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What is my sister's name?", "Ana", "Your sister's name is Ana."),
        ("Who was the founder of the paper?", "Eddie Shah", "The founder of the paper was Eddie Shah."),
        ("What colour is the sky?", "blue", "The sky is blue."),
        ("Who wrote Hamlet?", "Shakespeare", "Shakespeare wrote Hamlet."),
        ("When was Marie Curie born?", "1867", "Marie Curie was born in 1867."),
        ("I am going to Norway. What is the capital?", "Oslo", "The capital is Oslo."),
        ("How old is my brother?", "34", "Your brother is 34 years old."),
        ("How old is the house?", "90 years", "The house is 90 years."),
        ("How tall is my son?", "1.42 m", "Your son is 1.42 m tall."),
        ("How long is our lunch break?", "45 minutes", "Your lunch break is 45 minutes."),
        ("How many legs does a spider have?", "eight", "A spider has eight legs."),
        ("How many children do I have?", "two", "You have two children."),
        ("How many people work in our team?", "seven", "Seven people work in your team."),
        ("How often do I water the cactus?", "once a month", "You water the cactus once a month."),
        ("Where do we keep the spare key?", "under the pot", "You keep the spare key under the pot."),
        ("When do we meet on Mondays?", "9:30", "You meet on Mondays at 9:30."),
        ("Where does Ana live?", "Oslo", "Ana lives in Oslo."),
        ("Where does my little sister live?", "in Oslo", "Your little sister lives in Oslo."),
        ("What time does the bus leave?", "7:15", "The bus leaves at 7:15."),
        ("When does the shop close?", "at eight", "The shop closes at eight."),
        ("What does my brother drink for breakfast?", "tea", "Your brother drinks tea for breakfast."),
        ("Which form do I need for travel expenses?", "form T-14", "You need form T-14 for travel expenses."),
        ("Who do I call about the heating?", "Mr Klein", "You call Mr Klein about the heating."),
        ("What does she carry?", "a bag", "She carries a bag."),
        ("Where does he go?", "to school", "He goes to school."),
        ("When is my sister coming?", "Friday", "Your sister is coming on Friday."),
        ("How long does it take to get to work?", "20 minutes", "It takes 20 minutes to get to work."),
        ("How long does it take me to get to work?", "20 minutes", "It takes you 20 minutes to get to work."),
        ("How long do I boil an egg?", "8 minutes", "You boil an egg for 8 minutes."),
        ("How far do I run on Mondays?", "5 km", "You run 5 km on Mondays."),
        ("How far is the station from here?", "2 km", "The station is 2 km from here."),
        ("How far is the station?", "2 km", "The station is 2 km away."),
        ("How late is the train?", "10 minutes", "The train is 10 minutes late."),
        ("How old am I?", "40", "You are 40 years old."),
        ("How many people are in the Lisbon office?", "37", "37 people are in the Lisbon office."),
        ("How many legs does a spider have?", "eight legs", "A spider has eight legs."),
        ("Where is my mum from?", "Graz", "Your mum is from Graz."),
        ("Where is my mum from?", "from Graz", "Your mum is from Graz."),
        ("Where is my mum?", "Graz", "Your mum is in Graz."),
        ("What is my sister allergic to?", "nuts", "Your sister is allergic to nuts."),
        ("What is my sister allergic to?", "allergic to nuts", "Your sister is allergic to nuts."),
        ("What am I allergic to?", "nuts", "You are allergic to nuts."),
        ("What is my best friend good at?", "chess", "Your best friend is good at chess."),
        ("Which floor is our office on?", "the third", "Your office is on the third."),
        ("Who was Hamlet written by?", "Shakespeare", "Hamlet was written by Shakespeare."),
        ("What is the weather like?", "sunny", "The weather is sunny."),
        ("What is my brother studying?", "law", "Your brother is studying law."),
        ("What is my dog called?", "Bruno", "Your dog is called Bruno."),
        ("What colour is the wall painted?", "blue", "The wall is painted blue."),
        ("Who do I work for?", "Siemens", "You work for Siemens."),
        ("Who do I talk to about the heating?", "Mr Klein", "You talk to Mr Klein about the heating."),
        ("What city do I live in?", "in Oslo", "You live in Oslo."),
        ("What kind of music do I like?", "jazz", "You like jazz."),
        ("What size shoes do I wear?", "42", "You wear 42."),
        ("What do I usually have for breakfast?", "porridge", "You usually have porridge for breakfast."),
        ("What do I need to buy?", "milk", "You need to buy milk."),
        ("When was I born?", "1984", "You were born in 1984."),
        ("Which year was Ana born?", "1867", "Ana was born in 1867."),
        ("When is the shop open?", "9 am", "The shop is open at 9 am."),
        ("When is our team meeting?", "10:00", "Your team meeting is at 10:00."),
        ("When is the wedding?", "4 May", "The wedding is on 4 May."),
        ("Who is coming to dinner?", "Ana", "Ana is coming to dinner."),
        ("What is in the box?", "A hat", "A hat is in the box."),
        ("Who wrote We Will Rock You?", "Brian May", "Brian May wrote We Will Rock You."),
        ("What is the language spoken in Brazil?", "Portuguese", "The language spoken in Brazil is Portuguese."),
        ("Why is the sea so salty?", "because of its rivers", "The sea is so salty because of its rivers."),
        ("Why can't penguins fly?", "because of their wings", "Penguins can't fly because of their wings."),
        ("Why was our meeting moved?", "because Anna is away", "Your meeting was moved because Anna is away."),
        ("Why am I so tired?", "because of the cold", "You are so tired because of the cold."),
        ("Why do cats purr?", "because they are content", "Cats purr because they are content."),
        ("Why do we have leap years?", "due to the Sun", "We have leap years due to the Sun."),
        ("When did the Berlin Wall fall?", "9 November 1989", "The Berlin Wall fell on 9 November 1989."),
        ("How much did my new bike cost?", "$1,250", "Your new bike cost $1,250."),
        ("In what year did Portugal join the EU?", "1986", "Portugal joined the EU in 1986."),
        ("When does my passport expire?", "march 2031", "Your passport expires in March 2031."),
        ("How many goals did Ana score?", "eight", "Ana scored eight goals."),
        ("how long have i been learning it", "since June", "You have been learning it since June."),
        ("Which architect built the palace?", "Le Monnier", "Le Monnier built the palace."),
        ("When did Etta Cone last visit Europe?", "1938", "Etta Cone last visited Europe in 1938."),
        ("what did i name my boat", "Ada", "You named your boat Ada."),
        ("What does Ana call me?", "Bobo", "Ana calls you Bobo."),
        ("What should I bring to the picnic?", "napkins", "You should bring napkins to the picnic."),
        ("what does my partner do", "a carpenter", "Your partner is a carpenter."),
        ("how many vacation days do i have left", "11 and a half", "You have 11 and a half vacation days left."),
        (
            "How many kids does my brother have?",
            "two, a boy and a girl",
            "Your brother has two kids, a boy and a girl.",
        ),
        ("How many siblings do I have?", "two brothers", "You have two brothers."),
        ("what language do we speak at home", "Polish", "You speak Polish at home."),
        ("What do I need for tomorrow?", "a rope", "You need a rope for tomorrow."),
        (
            "What's the name of the project I'm working on?",
            "Heron",
            "The name of the project you are working on is Heron.",
        ),
        ("Who's coming on Saturday?", "Jonas and his wife", "Jonas and his wife are coming on Saturday."),
        ("who reports to me", "Anja, Tomasz and Leo", "Anja, Tomasz and Leo report to you."),
        ("Who sits next to me?", "nobody, you work from home", "Nobody sits next to you, you work from home."),
        ("Who pays for my trip?", "you", "You pay for your trip."),
        ("When does our repair shop open?", "at nine", "Your repair shop opens at nine."),
        ("When does this repair shop open?", "at nine", "This repair shop opens at nine."),
        ("How long does this take to arrive?", "three days", "This takes three days to arrive."),
        ("Where does that come from?", "Norway", "That comes from Norway."),
        ("Which bus do I take to work?", "the number 7", "You take the number 7 to work."),
        ("What do I wear to school?", "a uniform", "You wear a uniform to school."),
        ("What do I need to work on?", "Python", "You need to work on Python."),
        ("When does this start on Monday?", "at nine", "This starts on Monday at nine."),
        ("Who is the head of advertising?", "Ms Bello", "The head of advertising is Ms Bello."),
    ],
)
def test_a_simple_question_gives_the_sentence(question: str, answer: str, expected: str) -> None:
    assert expected in question_sentences.from_question(question, answer)


@pytest.mark.parametrize(
    "noun",
    [
        "pen",
        "children",
        "kitchen",
        "garden",
        "oven",
        "bed",
        "queen",
        "speed camera",
        "screen",
        "next meeting",
        "Beijing",
    ],
)
def test_a_noun_is_no_participle(noun: str) -> None:
    found = question_sentences.from_question(f"Where is my {noun}?", "here")
    assert found == [f"Your {noun} is here."]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is my name?", "You are Bo"),
        ("What is my name?", "I'm Bo"),
        ("How old is the house?", "it was built in 1920"),
        ("What is my dog called?", "your dog's name is Bruno"),
        ("Where does Ana live?", "she lives in Oslo"),
        ("When is the party?", "there's a party on Friday"),
        ("Who waters the plants in the office?", "Joaquin does"),
    ],
)
def test_nothing_is_built_around_a_clause(question: str, answer: str) -> None:
    assert sentence_parts.is_clause(answer)
    assert question_sentences.from_question(question, answer) == []


@pytest.mark.parametrize(
    "answer", ["6 am", "We Will Rock You", "you and Ana", "the man who was king", "when it is dark", "It", ""]
)
def test_other_answers_are_no_clauses(answer: str) -> None:
    assert not sentence_parts.is_clause(answer)


@pytest.mark.parametrize(
    ("stated", "reply", "expected"),
    [
        ("no, it's a fruit", "No, it is a vegetable.", "it's a fruit"),
        ("No. It is a fruit", "no", "It is a fruit"),
        ("no, it's a vegetable", "Yes, it is a fruit.", "no, it's a vegetable"),
        ("no, it isn't a fruit", "No, it is a root.", "no, it isn't a fruit"),
        ("yes, it's a fruit", "No, it is a vegetable.", "yes, it's a fruit"),
        ("nobody knows", "No, it is a vegetable.", "nobody knows"),
    ],
)
def test_a_no_objects_to_a_reply_that_says_no(stated: str, reply: str, expected: str) -> None:
    assert sentences.without_objection("Is a tomato a fruit?", stated, reply) == expected


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Is a tomato a fruit?", "a fruit", ["Yes, a tomato is a fruit."]),
        ("I wonder. Am I late?", "late", ["Yes, you are late."]),
        ("Is a tomato a fruit?", "a berry", []),
        ("Is a tomato?", "a tomato", []),
        ("Can penguins fly?", "fly", []),
        ("", "a fruit", []),
    ],
)
def test_a_question_that_ends_in_the_answer_is_affirmed(question: str, answer: str, expected: list[str]) -> None:
    assert question_sentences.affirmed(question, answer) == expected


def test_what_was_done_to_the_answer_has_the_answer_for_its_subject() -> None:
    asked = "Which town is located nearest to the lake?"
    assert question_sentences.from_question(asked, "Rugby") == ["Rugby is located nearest to the lake."]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Why is the sea salty?", "rivers"),
        ("Why is", "because of it"),
        ("Why", "because of it"),
        ("", "because of it"),
        ("How fast is a cheetah?", "100 km/h"),
        ("How long is Ana staying?", "a week"),
        ("How many kilos is my suitcase?", "20"),
        ("How many cups am I allowed?", "two"),
        ("Which floor is the design team on?", "the fourth"),
        ("What is Ana reading?", "Emma"),
        ("Where is Ana teaching maths?", "Graz"),
        ("What is the weather like in Oslo?", "sunny"),
        ("What size shoes can I wear?", "42"),
        ("What do I need to renew?", "my pass"),
        ("How many legs are there?", "eight"),
        ("Where does a lighthouse keeper nap?", "Oslo"),
        ("What do", "Oslo"),
        ("Who owns the blue bike?", "yours"),
        ("In what year was the beetle described by Brisout?", "1854"),
        ("What domain has more entries than all others do?", "com"),
        ("Who invented the telephone?", "Meucci who was first"),
        ("What's wrong with my car?", "the brakes"),
        ("What do I do for a living?", "nurse"),
        ("How many cups do I drink a day?", "only one"),
        ("How many pets do we have, and what are they called?", "two cats"),
    ],
)
def test_a_question_whose_words_do_not_make_the_sentence_gives_none(question: str, answer: str) -> None:
    assert question_sentences.from_question(question, answer) == []


def test_what_a_person_says_of_themselves_is_said_to_them() -> None:
    assert sentences.to_you("I am allergic to my cat") == "You are allergic to your cat"
    assert sentences.to_you("our office moved") == "your office moved"
    assert sentences.to_you("we're closed on Monday") == "you are closed on Monday"
    assert sentences.to_you("Elizabeth I") == "Elizabeth I"
    assert sentences.to_you("Class I Railroads") == "Class I Railroads"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("because I'm working too much", "because you are working too much"),
        ("I'd like tea", "You'd like tea"),
        ("I'll be 40", "You'll be 40"),
        ("what I’ll eat", "what you'll eat"),
        ("I wasn't there", "You weren't there"),
        ("it is mine", "it is yours"),
        ("Mine is red", "Yours is red"),
        ("a friend of mine", "a friend of yours"),
        ("my sister and I", "your sister and you"),
        ("My Volvo is blue. My dog barks", "Your Volvo is blue. Your dog barks"),
    ],
)
def test_every_form_of_the_first_person_is_said_to_them(said: str, expected: str) -> None:
    assert sentences.to_you(said) == expected


@pytest.mark.parametrize(
    "text",
    [
        "My Fair Lady", "We Will Rock You", "I Will Survive", "the film My Fair Lady", "a song called Tell Me Why", "Take On Me",
        "in a coal mine", "the old mine", "a gold mine in Peru", "Elizabeth I", "the US", "So I Married an Axe Murderer",
    ],
)  # fmt: skip
def test_titles_and_nouns_stay_as_they_are(text: str) -> None:
    assert sentences.to_you(text) == text


def test_what_the_model_took_over_from_the_question_is_said_to_the_person() -> None:
    assert sentences.said_to_you("We have a team of", "How many people work in our team?") == "You have a team of"
    assert sentences.said_to_you("My brother is", "How old is my brother?") == "Your brother is"
    assert sentences.said_to_you("I think my brother is", "How old is Tom?") == "I think my brother is"


def test_what_the_hint_calls_wrong_is_replaced_wherever_it_stands() -> None:
    reply = "Oslo is the capital of Sweden. Sweden's king lives in Oslo; Swedenborg did not."
    changed = sentences.in_place_of("sweden", "Norway", reply)
    assert changed == "Oslo is the capital of Norway. Norway's king lives in Oslo; Swedenborg did not."
    assert sentences.in_place_of("Bergen", "Oslo", reply) is None
    assert sentences.in_place_of("", "Oslo", reply) is None
    assert sentences.in_place_of("(c) Sweden", r"\1", "It is (c) Sweden here.") == r"It is \1 here."


@pytest.mark.parametrize(
    ("rejected", "answer", "reply", "expected"),
    [
        ("8", "9", "The meeting is at 8.", "The meeting is at 9."),
        ("8:00", "9:00", "The meeting is at 8:00 in room 8.", "The meeting is at 9:00 in room 8."),
        ("Tuesday", "on Monday", "The meeting is on Tuesday.", "The meeting is on Monday."),
        ("May", "on Monday", "It is in May and rains.", "It is on Monday and rains."),
        ("4th", "on the 5th", "It is on the 4th.", "It is on the 5th."),
        ("dog", "the cat", "It lies on a dog.", "It lies on the cat."),
        ("dog", "cat", "It lies on a dog.", "It lies on a cat."),
        ("cat", "a dog", "The cat barked. The cat ran.", "A dog barked. A dog ran."),
    ],
)
def test_the_answer_takes_the_place_with_its_own_preposition_and_article(
    rejected: str, answer: str, reply: str, expected: str
) -> None:
    assert sentences.in_place_of(rejected, answer, reply) == expected


@pytest.mark.parametrize(
    ("rejected", "answer", "reply"),
    [
        ("8", "9", "The meeting is at 8:00 in room 8."),
        ("8", "9", "There are 8 planets, and 8 moons."),
        ("5", "6", "It costs 5.50 euros."),
        ("50", "60", "It costs 5.50 euros."),
        ("5", "6", "It has 1,5 million and 5,000 more."),
    ],
)
def test_a_number_is_not_replaced_within_another_nor_where_several_could_be_meant(
    rejected: str, answer: str, reply: str
) -> None:
    assert sentences.in_place_of(rejected, answer, reply) is None


def test_the_reply_is_cut_before_it_says_more_than_was_asked() -> None:
    heads = sentences.endings(
        "The capital of Norway is Bergen, a rainy town on the coast.", "What is the capital of Norway?"
    )
    assert "The capital of Norway is" in heads
    assert not any("town" in head or "coast" in head for head in heads)
    assert sentences.endings("", "What?") == []


def test_the_beginning_of_a_reply_has_a_verb() -> None:
    asked = "How often do I water the cactus?"
    assert sentences.endings("Watering a cactus is needed weekly.", asked)[0] == "Watering a cactus is"
    assert sentences.endings("The people in the office", "How many people are in the office?") == []
    assert sentences.endings("Your brother plays the flute.", "What does my brother play?")[0] == "Your brother plays"


def test_the_subject_of_the_reply_may_be_what_was_wrong() -> None:
    assert sentences.with_other_subject("Lope de Vega wrote Don Quixote.", "Cervantes", "Who wrote Don Quixote?") == (
        "Cervantes wrote Don Quixote."
    )
    assert sentences.with_other_subject("The capital is Bergen.", "Oslo", "What is the capital?") is None


def test_no_sentence_ends_after_a_title_or_an_initial() -> None:
    assert sentences.first_sentence("Your doctor is Dr. Meier. She is kind.") == "Your doctor is Dr. Meier."
    assert sentences.first_sentence("It was J. S. Bach. He wrote it.") == "It was J. S. Bach."
    assert sentences.first_sentence("It was so. Then I. He did.") == "It was so."
    assert sentences.sentence_with("Meier", "You asked. It is Dr. Meier.") == "It is Dr. Meier."
    assert sentences.last_question("I forgot. Who is Dr. Meier?") == "Who is Dr. Meier?"
    assert sentences.last_question("Really! What is 3.5 km in miles?") == "What is 3.5 km in miles?"


def test_sentences_begin_with_a_capital_and_end_with_a_full_stop() -> None:
    assert sentences.bare("oslo") == "Oslo."
    assert sentences.bare("Carlos Alan Autry Jr.") == "Carlos Alan Autry Jr."
    assert sentences.bare("bluewhale42") == "bluewhale42."


def test_the_sentence_with_the_answer_is_the_one_it_stands_in() -> None:
    text = "Oslo lies at a fjord. It is the capital of Norway. It rains."
    assert sentences.sentence_with("Norway", text) == "It is the capital of Norway."
    assert sentences.sentence_with("Oslo", text) == "Oslo lies at a fjord."


@pytest.mark.parametrize(
    ("question", "stated", "expected"),
    [
        ("Is my brother older?", "no he is younger", "no, he is younger"),
        ("Can I eat nuts?", "no!! You are allergic", "no, you are allergic"),
        ("Do I eat meat?", "no meat", "no meat"),
        ("What do I eat?", "no - it is late", "no - it is late"),
    ],
)
def test_a_comma_follows_the_yes_or_no(question: str, stated: str, expected: str) -> None:
    assert sentences.with_comma(question, stated) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "your aunt gave it to you",
        "germany beat argentina",
        "Lena will pick you up",
        "your mom lives in Ulm, by the sea",
    ],
)
def test_a_noun_and_a_verb_are_a_clause(answer: str) -> None:
    assert sentence_parts.is_clause(answer)


@pytest.mark.parametrize(
    "answer", ["a house built in 1920", "Jonas and Will", "a must", "the made bed", "your sister's drinks cabinet"]
)
def test_a_noun_with_what_looks_like_a_verb_is_none(answer: str) -> None:
    assert not sentence_parts.is_clause(answer)
