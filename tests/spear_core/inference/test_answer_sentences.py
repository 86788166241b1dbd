"""Sentences that say a stated answer: the words around it come from the reply or the question."""

from __future__ import annotations

import pytest

from spear_core.inference import answer_sentences as sentences


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
        ("Why is the sea so salty?", "because of its rivers", "The sea is so salty because of its rivers."),
        ("Why can't penguins fly?", "because of their wings", "Penguins can't fly because of their wings."),
        ("Why was our meeting moved?", "because Anna is away", "Your meeting was moved because Anna is away."),
        ("Why am I so tired?", "because of the cold", "You are so tired because of the cold."),
        ("Why do cats purr?", "because they are content", "Cats purr because they are content."),
        ("Why do we have leap years?", "due to the Sun", "We have leap years due to the Sun."),
    ],
)
def test_a_simple_question_gives_the_sentence(question: str, answer: str, expected: str) -> None:
    assert expected in sentences.from_question(question, answer)


def test_what_was_done_to_the_answer_has_the_answer_for_its_subject() -> None:
    asked = "Which town is located nearest to the lake?"
    assert sentences.from_question(asked, "Rugby") == ["Rugby is located nearest to the lake."]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Why is the sea salty?", "rivers"),
        ("Why is", "because of it"),
        ("Why", "because of it"),
        ("", "because of it"),
        ("How far is it to the lake?", "3 km"),
        ("How many legs are there?", "eight"),
        ("How many goals did Ana score?", "eight"),
        ("Where does a lighthouse keeper nap?", "Oslo"),
        ("What do", "Oslo"),
    ],
)
def test_a_question_whose_words_do_not_make_the_sentence_gives_none(question: str, answer: str) -> None:
    assert sentences.from_question(question, answer) == []


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
