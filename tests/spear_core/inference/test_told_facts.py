"""What the person told of themselves is found for the question that it answers, and for no other."""

from __future__ import annotations

import pytest

from spear_core.inference.told_facts import MOST_CHARACTERS, told_fact

Said = list[dict[str, str]]
# statement, question, does it answer it; written when the rules stood
HELD_OUT = [
    ("My parrot is called Kiki", "Do you remember what my parrot is called?", True),
    ("My landlord is Mr Olsen.", "Who is my landlord?", True),
    ("I was born in Trondheim", "Where was I born?", True),
    ("My phone number is 555 0134", "What is my phone number?", True),
    ("I am allergic to peanuts", "What am I allergic to?", True),
    ("Our office is on the third floor", "Which floor is our office on?", True),
    ("My grandmother is 91", "How old is my grandmother?", True),
    ("My flight is at 6 am", "When is my flight?", True),
    ("I study marine biology", "What do I study?", True),
    ("My team meets on Tuesdays", "When does my team meet?", True),
    ("my son plays the trumpet", "What instrument does my son play?", True),
    ("The password of my laptop is tulip77", "What is the password of my laptop?", True),
    ("I usually have porridge for breakfast", "What do I usually have for breakfast?", True),
    ("My sister is married to Jonas", "Who is my sister married to?", True),
    ("I park on level 3", "Where do I park?", True),
    ("My favourite band is Kings of Leon", "What's my favourite band?", True),
    ("I have three cats", "How many cats do I have?", True),
    ("My doctor's name is Eva Lund", "What is my doctor's name?", True),
    ("I go swimming on Mondays", "When do I go swimming?", True),
    ("My brother works at a bank", "Where does my brother work?", True),
    ("My parrot is called Kiki", "Where is my parrot from?", False),
    ("My sister is married to Jonas", "Where does my sister live?", False),
    ("I have three cats", "What are my cats called?", False),
    ("My flight is delayed", "When is my flight?", False),
    ("I hate my job", "Where do I work?", False),
    ("My brother works too hard", "Where does my brother work?", False),
    ("My phone is old", "What is my phone number?", False),
    ("I study every evening", "What do I study?", False),
    ("My son plays well", "What instrument does my son play?", False),
    ("I park badly", "Where do I park?", False),
]


def talk(*turns: str) -> Said:
    """The person's messages, each but the last with a reply."""
    return [
        message
        for turn in turns
        for message in ({"role": "user", "content": turn}, {"role": "assistant", "content": "Nice."})
    ][:-1]


@pytest.mark.parametrize(
    ("told", "question"),
    [("My dog is called Bruno.", "What is my dog called?"), ("I live in Bergen.", "Where do I live?"),
     ("My wife's name is Ida.", "What is my wife's name?"), ("my cat's name is luna", "What's my cat's name?"),
     ("I work at the harbour office.", "Where do I work?"), ("I have two brothers.", "How many brothers do I have?"),
     ("My birthday is on the 4th of May.", "When is my birthday?"), ("My boss is Karin.", "Who is my boss?"),
     ("My favourite colour is green.", "What is my favourite colour?"), ("I drive a blue Volvo", "What car do I drive?"),
     ("We keep the spare key in the shed.", "Where do we keep the spare key?"), ("My daughter is seven.", "How old is my daughter?"),
     ("My train leaves at 7:40.", "When does my train leave?"), ("My name is Bo.", "What is my name?"),
     ("I take my coffee with oat milk", "How do I take my coffee?"), ("I'm Petra.", "What is my name?"),
     ("My train leaves at 7:40 from platform 3", "When does my train leave?"), ("I was born in 1984.", "When was I born?"),
     ("I live at 12 Main Street", "Where do I live?"), ("We meet at 9", "When do we meet?"),
     ("My dog is called Bruno, not Max", "What is my dog called?"),
     ("My shop opens at noon", "When does my shop open?"),
     ("I'm Susan.", "What's my name?"), ("I’m Brian", "What's my name?"), ("I'm Sebastian Ryan", "What's my full name?"),
     ("Call me Bo", "Do you remember my name?"), ("I am Petra Huber!", "who am I?"), ("I'm from Graz", "Where am I from?"),
     ("I work as a nurse in Graz.", "What do I do for a living?"), ("I'm working as a baker.", "What is my job?"),
     ("I'm allergic to nuts.", "What am I allergic to?")],
)  # fmt: skip
def test_a_statement_answers_the_question_about_it(told: str, question: str) -> None:
    assert told_fact(talk(told, "What is an owl?", question)) == told


@pytest.mark.parametrize(
    ("told", "question"),
    [("My dog is sleeping.", "What is my dog called?"), ("I work too much.", "Where do I work?"),
     ("My boss is nice", "Who is my boss?"), ("I have a headache", "How many brothers do I have?"),
     ("I love my dog Bruno", "What is my dog called?"), ("My dog is called Bruno.", "What is my cat called?"),
     ("My dog is called Bruno.", "How old is my dog?"), ("I live alone", "Where do I live?"),
     ("The capital of Norway is Oslo.", "What is the capital of Norway?"), ("Is my dog called Bruno?", "What is my dog called?"),
     ("My sister lives in Oslo.", "Where do I live?"), ("My parents live in Oslo.", "Where do I live?"),
     ("He lives in Oslo.", "Where do I live?"), ("My wife drinks tea", "What do I drink?"),
     ("My sister's husband lives in Oslo.", "Where does my sister live?"), ("I want to live in Paris.", "Where do I live?"),
     ("I used to live in Oslo.", "Where do I live?"), ("I would live in Oslo", "Where do I live?"),
     ("I might live in Oslo", "Where do I live?"), ("If I live in Oslo I am happy", "Where do I live?"),
     ("My boss was Karin.", "Who is my boss?"), ("My boss is not Karin.", "Who is my boss?"),
     ("I am not allergic to nuts", "What am I allergic to?"), ("I'm never at work", "Where do I work?"),
     ("My train leaves from platform 3.", "When does my train leave?"), ("My flight is in room 8", "When is my flight?"),
     ("I was born in 1984.", "Where was I born?"), ("I work from 9 to 5", "Where do I work?"),
     ("I'm Colombian.", "What is my name?"), ("I am Catholic.", "What is my name?"), ("I'm Hindu", "Who am I?"),
     ("I'm Buddhist", "What is my name?"), ("I'm Argentinian", "What is my name?"), ("I'm Pakistani", "What is my name?"),
     ("I'm Happy", "What is my name?"), ("I'm OK.", "What is my name?"), ("This is Berlin.", "What is my name?"),
     ("Call me Later", "What is my name?"), ("I am From Graz And Here", "What is my name?"), ("I'm Bo", "Where am I from?"),
     ("I'm tired", "What is my name?"), ("I'm German.", "What is my name?"), ("I'm Petra and Bo's aunt", "What is my name?"),
     ("I work a lot", "What is my job?"), ("I'm from Graz", "What is my name?"), ("I'm Petra", "What is my dog's name?"),
     ("I'm Petra", "What is your name?"),
     ("My dog is called Bruno." + " He barks." * MOST_CHARACTERS, "What is my dog called?")],
)  # fmt: skip
def test_other_statements_do_not(told: str, question: str) -> None:
    assert told_fact(talk(told, question)) == ""


@pytest.mark.parametrize(
    ("told", "question", "statement"),
    [("Hello! My name is Bo.", "What is my name?", "My name is Bo."),
     ("My dog is called Bruno and I live in Bergen.", "What is my dog called?", "My dog is called Bruno"),
     ("My dog is called Bruno and I live in Bergen.", "Where do I live?", "I live in Bergen."),
     ("Hello, I'm Petra and I work as a nurse in Graz.", "What's my name?", "I'm Petra"),
     ("Hello, I'm Petra and I work as a nurse in Graz.", "What do I do for work?", "I work as a nurse in Graz."),
     ("Hi there! I live in Bergen.", "Where do I live?", "I live in Bergen."),
     ("Hi! My doctor is Dr. Meier. She is nice.", "Who is my doctor?", "My doctor is Dr. Meier."),
     ("My dog's vet is called Dr. Hill.", "Who is my dog's vet?", "My dog's vet is called Dr. Hill."),
     ("My boss is J. P. Olsen and I like him.", "Who is my boss?", "My boss is J. P. Olsen"),
     ("Hi, I live in Bergen.", "Where do I live?", "I live in Bergen."),
     ("I moved. Now I live in Oslo, but my sister lives in Porto.", "Where does my sister live?", "my sister lives in Porto.")],
)  # fmt: skip
def test_one_message_may_tell_several_things(told: str, question: str, statement: str) -> None:
    assert told_fact(talk(told, question)) == statement


@pytest.mark.parametrize(
    ("told", "question", "statement"),
    [("We have a cat called Pixel and a hamster called nugget.", "What is my cat called?", "my cat is called Pixel"),
     ("We have a cat called Pixel and a hamster called nugget.", "What's my hamster's name?", "my hamster is called nugget"),
     ("I've got a dog named Rex.", "What's the name of my dog?", "my dog is called Rex"),
     ("I have two cats called Pixel and Mimi.", "What are my cats called?", "my cats are called Pixel and Mimi"),
     ("I live in Graz with my husband Tom.", "What's my husband's name?", "my husband is called Tom"),
     ("My sister Anna is a nurse and she lives in Berlin.", "What is my sister's name?", "My sister is called Anna"),
     ("My sister Anna is a nurse and she lives in Berlin.", "What does my sister do?", "My sister is a nurse"),
     ("My sister Anna is a nurse and she lives in Berlin.", "Where does my sister live?", "my sister lives in Berlin."),
     ("My best friend Sabine is ill.", "What's my best friend's name?", "My best friend is called Sabine"),
     ("My dog is called Bruno and he is three years old.", "What's my dog's name?", "My dog is called Bruno"),
     ("My dog is called Bruno and he is three years old.", "How old is my dog?", "my dog is three years old."),
     ("I have a dog called Bruno. He's three.", "How old is my dog?", "my dog is three."),
     ("I have a dentist appointment on Tuesday at 9.", "When is my dentist appointment?",
      "my dentist appointment is on Tuesday at 9."),
     ("My name is lena and I live in Graz.", "What is my name?", "My name is lena")],
)  # fmt: skip
def test_a_sentence_tells_more_than_its_main_point(told: str, question: str, statement: str) -> None:
    assert told_fact(talk(told, question)) == statement


@pytest.mark.parametrize(
    ("told", "question"),
    [("I have a friend who has a dog called Rex.", "What is my dog called?"),
     ("I don't have a cat called Pixel", "What's my cat called?"), ("I had a cat called Pixel", "What's my cat called?"),
     ("I'd like to have a cat called Pixel", "What's my cat called?"),
     ("I told my sister Anna is ill.", "What is my sister's name?"),
     ("I was with my sister Monday evening.", "What is my sister's name?"),
     ("My mother's sister Ruth is a baker", "What's my mother's name?"),
     ("My mother's sister Ruth is a baker", "What's my sister's name?"),
     ("My brother Max met my boss Paul. He lives in Ulm.", "Where does my brother live?"),
     ("My sister lives in Berlin.", "What does my sister do?"), ("My sister is a bit ill.", "What does my sister do?"),
     ("I have a question about my phone.", "What is my phone number?"), ("My name is difficult.", "What is my name?")],
)  # fmt: skip
def test_what_may_mean_something_else_tells_nothing_in_passing(told: str, question: str) -> None:
    assert told_fact(talk(told, question)) == ""


def test_the_newest_statement_counts_and_replies_do_not() -> None:
    question = "What is my dog called?"
    assert told_fact(talk("My dog is called Max.", "My dog is called Bruno.", question)) == "My dog is called Bruno."
    replied = [{"role": "assistant", "content": "My dog is called Rex."}, {"role": "user", "content": question}]
    assert told_fact(replied) == "" and told_fact(replied[-1:]) == ""


def test_of_those_written_afterwards_few_are_missed_and_none_is_wrong() -> None:
    found = [(told_fact(talk(told, question)) == told, answers) for told, question, answers in HELD_OUT]
    assert sum(answers for _, answers in found) == 20
    assert [is_found for is_found, answers in found if not answers] == [False] * 10
    assert sum(is_found for is_found, answers in found if answers) >= 17
