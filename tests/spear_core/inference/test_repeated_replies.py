"""A reply that copies an earlier one is written again without it. The decoder here is a list of replies."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from spear_core.inference.repeated_replies import MOST_CHARACTERS, beginning, not_again, without_copies
from spear_core.training.judge import normalised
from spear_core.training.traces import Messages

LUNA = "Your cat is called Luna. She's a special one, just like me!"
CAT = [{"role": "user", "content": "What is my cat called?"}, {"role": "assistant", "content": LUNA}]
TOLD = [{"role": "user", "content": "My cat is called Luna."}, {"role": "assistant", "content": LUNA}]


class Decoder:
    """Writes what it is given to say, word by word, and keeps what it was asked."""

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked: list[Messages] = []
        self.unread = 0

    def __call__(self, prompt: Messages) -> Generator[str]:
        self.asked.append(prompt)
        words = self.replies.pop(0).split(" ")
        for i in range(len(words)):
            try:
                yield " ".join(words[: i + 1])
            except GeneratorExit:
                self.unread += len(words) - i - 1
                raise


def asked(question: str, *before: list[dict[str, str]]) -> list[dict[str, str]]:
    return [*(m for exchange in before for m in exchange), {"role": "user", "content": question}]


@pytest.mark.parametrize(
    "question", ["What is my dog called?", "Where do I work?", "How many legs does a spider have?"]
)
def test_a_copy_is_never_shown_and_written_again_without_what_it_copies(question: str) -> None:
    decoder = Decoder(LUNA, "Eight of them.")
    texts = list(without_copies(asked(question, CAT), decoder))
    assert texts == ["Eight", "Eight of", "Eight of them."]
    assert decoder.asked == [asked(question, CAT), asked(question)]
    assert decoder.unread > 0, "the copy is not decoded to its end"


@pytest.mark.parametrize(
    ("question", "before"),
    [
        ("What is my cat called?", CAT),
        ("What's the name of my cat?", CAT),
        ("What is my cat called?", TOLD),
        ("And what is it called?", CAT),
    ],
    ids=["the same", "in other words", "told", "leaning on it"],
)
def test_the_same_reply_to_what_asks_the_same_stays(question: str, before: list[dict[str, str]]) -> None:
    decoder = Decoder(LUNA)
    texts = list(without_copies(asked(question, before), decoder))
    assert texts[-1] == LUNA and len(decoder.asked) == 1


def test_what_only_begins_alike_is_held_back_until_it_goes_on_otherwise() -> None:
    france = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is Paris."},
    ]
    decoder = Decoder("The capital of Italy is Rome.")
    texts = list(without_copies(asked("What is the capital of Italy?", france), decoder))
    assert texts == ["The capital of Italy", "The capital of Italy is", "The capital of Italy is Rome."]
    short = Decoder("The capital of")
    assert list(without_copies(asked("What is the capital of Italy?", france), short)) == ["The capital of"]


def test_two_copies_are_written_again_and_the_third_reply_is_shown_whatever_it_is() -> None:
    dog = [
        {"role": "user", "content": "What is my dog called?"},
        {"role": "assistant", "content": "Your dog is called Max."},
    ]
    decoder = Decoder(LUNA, "Your dog is called Max.", LUNA)
    owl = [{"role": "user", "content": "What is an owl?"}, {"role": "assistant", "content": "A bird that hunts."}]
    prompt = [{"role": "system", "content": "Be short."}, *asked("Where do I work?", CAT, dog, owl)]
    assert list(without_copies(prompt, decoder))[-1] == LUNA
    assert [len(read) for read in decoder.asked] == [8, 6, 2], "the last time the question is asked alone"


@pytest.mark.parametrize(
    ("reply", "start"),
    [
        (LUNA, "Your cat is called Luna."),
        ("Yes.", ""),
        ("<think>Okay, the user asks for a name.</think>Your cat is called Luna.", ""),
        ("Yes! It is a bird that hunts at night.", "Yes! It is a bird that hunts at night."),
        ("Lists:\n- one\n- two and more of it", "Lists:\n- one\n- two and more of it"),
        ("a word " * 40, ("a word " * 40)[:MOST_CHARACTERS].strip()),
    ],
)
def test_a_copy_is_recognised_by_its_first_sentences(reply: str, start: str) -> None:
    assert beginning(reply) == start


def test_without_a_history_every_piece_is_passed_on() -> None:
    write: Callable[[Messages], Generator[str]] = Decoder("One two three four.")
    assert list(without_copies(asked("How many legs does a spider have?"), write)) == [
        "One",
        "One two",
        "One two three",
        "One two three four.",
    ]


@pytest.mark.parametrize(
    ("question", "is_asked"),
    [("Another one, please.", True), ("Tell me another joke", True), ("One more!", True), ("Something else, please", True),
     ("Give me a different answer.", True), ("What is my cat called?", False), ("Is another cat called Luna?", False)],
)  # fmt: skip
def test_another_reply_is_none_of_the_earlier_ones(question: str, is_asked: bool) -> None:
    assert not_again(asked(question, CAT)) == ({normalised(LUNA)} if is_asked else set())
