"""Cues of a correction in conversation, and what the model decides of the weak ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from spear_core.inference import corrections
from spear_core.inference.corrections import FollowUp, Sign, cue, is_correction
from spear_core.inference.refusals import refuses
from spear_core.models.loading import load_model
from spear_core.training.traces import Encoder
from tests.spear_core.inference import personal_questions
from tests.spear_core.inference.refused_questions import HELD_OUT, TUNED, Case
from tests.tiny_models import tiny_folder

ASKED = ("What is the capital of Norway?", "The capital of Norway is Bergen.")


def said(message: str, question: str = ASKED[0], reply: str = ASKED[1]) -> Sign:
    return cue(FollowUp(question, reply, message))


@pytest.mark.parametrize(
    "message",
    ["no, it's Oslo", "No. Oslo", "that's wrong", "that's wrong, it is oslo", "not bergen but oslo", "you mean oslo",
     "it's Oslo, not Bergen", "wrong city", "teh answer is oslo", "I don't think that's right. It is Oslo."],
)  # fmt: skip
def test_an_objection_is_a_strong_sign(message: str) -> None:
    assert said(message) is Sign.STRONG


@pytest.mark.parametrize("message", ["Oslo", "it's oslo", "the capital of norway is oslo"])
def test_another_answer_without_an_objection_is_a_weak_sign(message: str) -> None:
    assert said(message) is Sign.WEAK


@pytest.mark.parametrize(
    "message",
    ["thanks!", "no, thanks", "no problem", "no", "no way!", "and of Sweden?", "no idea where that is", "make it shorter",
     "actually, can you tell me about Sweden", "I'd rather go to Sweden", "I disagree, it's ugly", "Bergen", "wow", "",
     "ok", "I saw Oslo last year", "the capital of Norway is Bergen", "word " * 60, "in French please"],
)  # fmt: skip
def test_what_else_people_say_is_no_sign(message: str) -> None:
    assert said(message) is Sign.NONE


def test_who_answers_a_question_of_the_model_does_not_correct_it() -> None:
    assert said("it's about climate change", "Help me with my essay.", "Of course. What is it about?") is Sign.NONE


def test_a_question_for_advice_has_no_one_answer_that_could_be_another() -> None:
    assert said("tea", "What should I drink?", "You could drink coffee.") is Sign.NONE
    assert said("it's snowing", "What is the weather?", "I cannot see the weather.") is Sign.NONE


def test_the_model_decides_of_weak_signs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(str(tiny_folder("qwen2", tmp_path / "m")))
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    weak, strong, none = (FollowUp(*ASKED, message) for message in ("Oslo", "no, it's Oslo", "thanks!"))
    found = corrections.information(loaded.model, encoder, weak)
    assert is_correction(loaded.model, encoder, weak, found) and not is_correction(
        loaded.model, encoder, weak, found + 0.1
    )

    def never(*_: object) -> float:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(corrections, "information", never)
    assert is_correction(loaded.model, encoder, strong) and not is_correction(loaded.model, encoder, none)


def taken(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """Of hand-written messages after a refusal: those with a strong sign that are no corrections, and corrections without."""
    strong = [(case, cue(FollowUp(*case[:3])) is Sign.STRONG) for case in cases]
    return [case for case, is_strong in strong if is_strong and not case[3]], [
        case for case, is_strong in strong if case[3] and not is_strong
    ]


def test_after_a_refusal_the_answer_has_a_strong_sign_and_nothing_else() -> None:
    assert len(TUNED) == 122 and len(HELD_OUT) == 42
    wrong, missed = taken(TUNED)
    assert wrong == [] and len(missed) <= 2, missed  # of 46 corrections
    wrong, missed = taken(HELD_OUT)
    assert wrong == [] and missed == []  # of 15


def test_after_a_wrong_reply_about_the_person_their_own_statement_has_a_strong_sign() -> None:
    assert len(personal_questions.TUNED) == 48 and len(personal_questions.HELD_OUT) == 32
    wrong, missed = taken(personal_questions.TUNED)
    assert wrong == [] and len(missed) <= 8, missed  # of 24 corrections; of those missed the model decides on 6
    wrong, missed = taken(personal_questions.HELD_OUT)
    assert wrong == [] and len(missed) <= 7, missed  # of 15; the model decides on 5


def test_a_reply_that_ends_with_a_question_may_still_be_corrected() -> None:
    asked = ("How old is my dog?", "Bruno is a 12-year-old German Shepherd. What brings you here today?")
    assert said("My dog is seven.", *asked) is Sign.STRONG
    for answer in ("I want to see the park.", "My dog is hungry.", "no, nothing", "seven"):
        assert said(answer, *asked) is Sign.NONE


@pytest.mark.parametrize(
    ("message", "sign"),
    [("My dog is called Bruno.", Sign.STRONG), ("my dog is called bruno", Sign.STRONG), ("My dog is called Max.", Sign.NONE),
     ("Yes, my dog is called Max", Sign.NONE), ("Thanks, my dog is called Bruno", Sign.NONE)],
)  # fmt: skip
def test_a_statement_that_repeats_the_reply_is_no_correction(message: str, sign: Sign) -> None:
    assert said(message, "What is my dog called?", "Your dog is called Max.") is sign


@pytest.mark.parametrize(
    ("reply", "refused"),
    [("I'm unable to provide that.", True), ("As an AI I don't have access to personal information.", True),
     ("I'm sorry for any confusion, but as a chatbot I'm not equipped to say.", True), ("You haven't told me.", True),
     ("Your cat is called Max.", False), ("I am sorry to hear that.", False), ("You can tell me more.", False),
     ("Bergen is the capital. I don't think it changed.", False)],
)  # fmt: skip
def test_a_refusal_is_told_from_an_answer(reply: str, refused: bool) -> None:
    assert refuses(reply) is refused


@pytest.mark.parametrize("question", ["What's my cat's name?", "whats my cats name", "Tell me my cat's name."])
def test_a_wrong_answer_is_corrected_however_the_question_was_put(question: str) -> None:
    assert said("no, it's Luna", question, "Your cat is called Max.") is Sign.STRONG
    assert said("no, thanks", question, "Your cat is called Max.") is Sign.NONE


@pytest.mark.parametrize(
    ("question", "reply", "message", "sign"),
    [
        ("Who is the head of our lab?", "It is Dr. Martinez, a biologist.", "It's Dr. Meier.", Sign.STRONG),
        ("Who is the head of our lab?", "It is Dr. Martinez, a biologist.", "He's great.", Sign.NONE),
        ("Who is the head of our lab?", "It is Dr. Martinez, a biologist.", "She's from Spain.", Sign.NONE),
        ("What's my mum's number?", "It is 0664 464.", "That has changed. My mum's number is 0664 111.", Sign.STRONG),
        ("What's my mum's number?", "It is 0664 464.", "Not anymore, it's 0664 111.", Sign.STRONG),
        ("What's my mum's number?", "It is 0664 464.", "It's 0664 111 now.", Sign.STRONG),
        ("What's my mum's number?", "I don't have that information.", "It's 0664 464 6646.", Sign.STRONG),
        ("What's my mum's number?", "I don't have that information.", "It's Friday, you know?", Sign.NONE),
        (
            "What's my mum's number?",
            "I'm unable to say that.",
            "That has changed. My mum's number is 0664 111.",
            Sign.STRONG,
        ),
        ("What's my mum's phone number?", "It is 0664 464.", "My mum's number is 0664 111.", Sign.STRONG),
        ("What's my mum's phone number?", "It is 0664 464.", "My dad's phone number is 0664 111.", Sign.NONE),
        ("What's my mum's number?", "It is 0664 464.", "That has changed my life.", Sign.NONE),
    ],
)
def test_what_has_changed_meanwhile_and_a_name_alone_correct_what_is_the_persons_own(
    question: str, reply: str, message: str, sign: Sign
) -> None:
    assert cue(FollowUp(question, reply, message)) is sign


def test_a_condition_in_a_long_reply_is_no_refusal() -> None:
    assert not refuses("Press the power key. If you're unable to access the printer, try it from a computer.")
    assert refuses("I'm unable to access the printer.")


@pytest.mark.parametrize(
    ("question", "reply", "message"),
    [
        ("Which computer do I use?", "You use a PC.", "No, I use a Mac."),
        ("When do I start work?", "You start work at 8.", "No, I start at 9"),
        ("Which language do I speak at home?", "You speak French at home.", "No, I speak Spanish."),
        ("What do I call my boat?", "You call your boat The Explorer.", "I call my boat Silver Swan"),
    ],
)
def test_what_the_person_does_is_a_statement_and_no_request(question: str, reply: str, message: str) -> None:
    follow_up = FollowUp(question, reply, message)
    assert corrections.may_state(follow_up) and cue(follow_up) is Sign.STRONG


@pytest.mark.parametrize(
    ("question", "reply", "message"),
    [
        ("Who wrote Faust?", "It was written by Schiller.", "hm no, Goethe wrote that one"),
        ("When did we move in?", "I don't have that information.", "May 2019."),
        ("When does our choir rehearse?", "Your choir rehearses on Wednesdays.", "mondays half seven"),
    ],
)
def test_an_objection_after_hm_and_the_time_asked_for_are_strong_signs(question: str, reply: str, message: str) -> None:
    assert cue(FollowUp(question, reply, message)) is Sign.STRONG


@pytest.mark.parametrize(
    ("question", "reply", "message"),
    [
        ("When did we move in?", "I don't have that information.", "hm, it rained that day"),
        ("When is the dentist?", "I can't see your calendar.", "well, never mind"),
        ("Who wrote Faust?", "It was written by Goethe.", "well I never"),
    ],
)
def test_hm_and_other_remarks_are_none(question: str, reply: str, message: str) -> None:
    assert cue(FollowUp(question, reply, message)) is not Sign.STRONG


@pytest.mark.parametrize(
    ("message", "back", "sign"),
    [
        ("no, it's lasagne", "What do you like to cook?", Sign.STRONG),
        ("No, my favourite food is lasagne.", "What do you like to cook?", Sign.STRONG),
        ("no, it's lasagne", "Do you like it?", Sign.NONE),
        ("lasagne", "What do you like to cook?", Sign.NONE),
        ("no idea", "What do you like to cook?", Sign.NONE),
        ("no, I hate cooking", "What do you like to cook?", Sign.NONE),
    ],
)
def test_a_no_does_not_answer_a_reply_that_asks_what(message: str, back: str, sign: Sign) -> None:
    assert cue(FollowUp("What is my favourite food?", f"You love pizza. {back}", message)) is sign


def test_a_no_after_a_reply_that_asks_what_corrects_a_follow_up_question() -> None:
    reply = "Pixel is the name of a hamster. What's the other one called?"
    assert cue(FollowUp("And the hamster?", reply, "No, the hamster is called Nugget.")) is Sign.STRONG
