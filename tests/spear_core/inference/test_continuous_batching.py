"""Replies decoded together say what each says alone; they come and go at any step, and nobody waits for the others."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import pytest
import torch

from benchmarks.report import DEFAULT_MODEL
from spear_core.errors import OutOfMemory
from spear_core.inference import continuous_batching
from spear_core.inference.continuous_batching import ContinuousBatching
from spear_core.inference.generate import ReplySettings
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.shared_base import share_base
from spear_core.training.traces import Messages
from tests.blocked_decoder import WAIT, HeldReplies
from tests.plain_generate import plain_reply

QUESTIONS = [
    "What is an owl?",
    "Hello!",
    "What is a violin? Is it an animal, an instrument, a tool or a fruit? Please tell me in one sentence.",
    "What colour is the sky?",
    "What is the capital of France?",
    "Is iron a metal?",
    "What is a spoon?",
]
PLAIN = ReplySettings(context_tokens=256, max_new_tokens=24)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(str(DEFAULT_MODEL), dtype="float32")


def asked(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def alone(loaded: LoadedModel, text: str, settings: ReplySettings = PLAIN) -> str:
    return plain_reply(loaded.model, loaded.tokenizer, asked(text), settings)


class Reader:
    """A thread that reads a reply."""

    def __init__(
        self,
        batching: ContinuousBatching,
        loaded: LoadedModel,
        text: str,
        model: Callable[[], Any] | None = None,
        settings: ReplySettings = PLAIN,
        stop: threading.Event | None = None,
    ) -> None:
        self.texts: list[str] = []
        self.error: BaseException | None = None

        def read() -> None:
            try:
                of = model or (lambda: loaded.model)
                for said in batching.stream(of, loaded.tokenizer, asked(text), settings, stop):
                    self.texts.append(said)
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=read, daemon=True)
        self._thread.start()

    def end(self) -> str:
        """The whole reply. Raises what went wrong in it."""
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error
        return self.texts[-1] if self.texts else ""


def rows_a_forward(model: Any) -> tuple[list[tuple[int, int]], Any]:
    """(rows, tokens a row) of every forward from now on, and the hook to be removed."""
    seen: list[tuple[int, int]] = []
    embeddings = model.get_input_embeddings()
    return seen, embeddings.register_forward_hook(lambda m, args, out: seen.append(tuple(args[0].shape)))


@pytest.mark.slow
def test_replies_that_are_asked_for_together_say_what_each_says_alone(loaded: LoadedModel) -> None:
    batching = ContinuousBatching()
    seen, hook = rows_a_forward(loaded.model)
    with HeldReplies(batching, loaded.tokenizer) as held:
        readers = [Reader(batching, loaded, text) for text in QUESTIONS]
        held.until(len(QUESTIONS))
    said = [reader.end() for reader in readers]
    hook.remove()
    assert said == [alone(loaded, text) for text in QUESTIONS]
    assert len({len(text) for text in said}) > 2  # they ended at different times
    assert max(rows for rows, _ in seen) >= len(QUESTIONS)  # and really went through the model together


def test_a_reply_joins_others_under_way_and_grows(loaded: LoadedModel) -> None:
    batching = ContinuousBatching()
    streams = [
        batching.stream(lambda: loaded.model, loaded.tokenizer, asked(text), PLAIN) for text in QUESTIONS
    ]  # a stream is asked for when its first text is read
    texts: list[list[str]] = [[] for _ in QUESTIONS]
    for started, stream in enumerate(streams):
        texts[started].append(next(stream))
    for own, stream in zip(texts, streams, strict=True):
        own += stream
    for own, text in zip(texts, QUESTIONS, strict=True):
        assert own[-1] == alone(loaded, text)
        assert all(after.startswith(before) for before, after in itertools.pairwise(own))


def test_a_reply_is_shown_token_by_token_but_no_half_character_and_nothing_that_will_change(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Warthogs: Zürich, 日本 🦉!"
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    unread: SimpleQueue[int | None] = SimpleQueue()
    shown = continuous_batching._texts(unread, loaded.tokenizer)
    grown: list[str] = []
    for place, token in enumerate(ids):
        unread.put(token)
        so_far = loaded.tokenizer.decode(ids[: place + 1])
        if not so_far.endswith("\ufffd") and so_far.strip() not in grown:
            grown.append(next(shown))  # would wait for good if it were held back
            assert grown[-1] == so_far.strip() and text.startswith(grown[-1])
    assert grown[0] != "Warthogs:" and grown[-1] == text
    unread.put(None)
    assert list(shown) == []

    def decode(tokens: list[int], **_: Any) -> str:
        return " ".join(["it", "'", "s", "mine"][: len(tokens)]).replace(" ' s", "'s")

    cleans_up = copy.copy(loaded.tokenizer)  # as some tokenizers of transformers do
    monkeypatch.setattr(cleans_up, "clean_up_tokenization_spaces", True)
    monkeypatch.setattr(cleans_up, "decode", decode)
    for token in (0, 1, 2, 3, None):
        unread.put(token)
    assert list(continuous_batching._texts(unread, cleans_up)) == ["it's mine"]
    late: list[str] = []
    shown = continuous_batching._texts(unread, cleans_up)
    for tokens in ([0, 1], [2, 3], [None]):
        for token in tokens:
            unread.put(token)
        late.append(next(shown))
    assert late == ["it", "it's", "it's mine"]


@torch.inference_mode()
def test_who_asks_is_computed_before_the_next_token_of_the_others(loaded: LoadedModel) -> None:
    batching = ContinuousBatching()
    with HeldReplies(batching, loaded.tokenizer) as held:
        readers = [Reader(batching, loaded, text) for text in QUESTIONS[:2]]
        held.until(2)
        first, second = (replace(waiting, unread=SimpleQueue(), stops=()) for waiting in batching._waiting)
    assert all(reader.end() for reader in readers)
    under_way = continuous_batching._one_step([], [first])
    seen, hook = rows_a_forward(loaded.model)
    (together,) = continuous_batching._one_step(under_way, [second])
    hook.remove()
    assert seen == [(1, len(second.request.prompt)), (2, 1)]  # its first token, and then one for both
    assert [len(row.tokens) for _, row in together.asked] == [2, 2]


def test_what_is_sampled_or_forbidden_for_one_reply_changes_no_other(loaded: LoadedModel) -> None:
    batching = ContinuousBatching()
    first = alone(loaded, QUESTIONS[0])
    ids = loaded.tokenizer(first, add_special_tokens=False)["input_ids"]
    without = replace(PLAIN, banned=[ids[:3], [ids[-1]]])
    wild = replace(PLAIN, temperature=2.0, top_p=1.0)
    with HeldReplies(batching, loaded.tokenizer) as held:
        readers = [Reader(batching, loaded, text) for text in QUESTIONS]
        forbidden = Reader(batching, loaded, QUESTIONS[0], settings=without)
        hot = [Reader(batching, loaded, QUESTIONS[0], settings=wild) for _ in range(4)]
        held.until(len(QUESTIONS) + 5)
    assert [reader.end() for reader in readers] == [alone(loaded, text) for text in QUESTIONS]
    assert forbidden.end() == alone(loaded, QUESTIONS[0], without) != first
    assert len({reader.end() for reader in hot}) > 1


def test_a_stopped_reply_and_one_that_nobody_reads_leave_the_others_alone(loaded: LoadedModel) -> None:
    batching = ContinuousBatching()
    stop = threading.Event()
    with HeldReplies(batching, loaded.tokenizer) as held:
        never_begun = Reader(batching, loaded, QUESTIONS[2], stop=stop)
        held.until(1)
        stop.set()
    assert never_begun.end() == ""
    left = batching.stream(lambda: loaded.model, loaded.tokenizer, asked(QUESTIONS[2]), PLAIN)
    stopping = threading.Event()
    stopped = batching.stream(lambda: loaded.model, loaded.tokenizer, asked(QUESTIONS[2]), PLAIN, stopping)
    next(left), next(stopped)
    left.close()  # type: ignore[attr-defined]
    stopping.set()
    whole = alone(loaded, QUESTIONS[2])
    shown = [*stopped]
    assert not shown or whole.startswith(shown[-1]) and shown[-1] != whole
    assert Reader(batching, loaded, QUESTIONS[1]).end() == alone(loaded, QUESTIONS[1])


def test_a_stopped_reply_does_not_wait_for_a_place_among_the_others(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous_batching, "MOST_ROWS", 1)
    batching, stop = ContinuousBatching(), threading.Event()
    waits, ended = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        waits.wait(WAIT)
        ended.wait(0.5)

    with HeldReplies(batching, loaded.tokenizer) as held:
        writing = Reader(batching, loaded, QUESTIONS[2])
        held.until(1)
        waiting = Reader(batching, loaded, QUESTIONS[1], stop=stop)
        held.until(2)
        hook = loaded.model.get_input_embeddings().register_forward_hook(slow)
    stop.set()
    waits.set()
    assert waiting.end() == ""
    assert writing._thread.is_alive()
    ended.set()
    assert writing.end() == alone(loaded, QUESTIONS[2])
    hook.remove()


def test_a_swap_changes_only_replies_that_begin_after_it(loaded: LoadedModel) -> None:
    batching = ContinuousBatching()
    other = share_base(loaded.model)
    head = other.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.flip(0), requires_grad=False)
    before = batching.stream(lambda: loaded.model, loaded.tokenizer, asked(QUESTIONS[2]), PLAIN)
    texts = [next(before)]
    after = batching.stream(lambda: other, loaded.tokenizer, asked(QUESTIONS[2]), PLAIN)
    changed = [*after]
    texts += before
    assert texts[-1] == alone(loaded, QUESTIONS[2])
    assert changed[-1] == plain_reply(other, loaded.tokenizer, asked(QUESTIONS[2]), PLAIN) != texts[-1]


class Breaks(torch.nn.Module):
    """A model that fails at its third forward."""

    def __init__(self, model: Any, error: Exception) -> None:
        super().__init__()
        self.model, self.error, self.left, self.config = model, error, 3, model.config

    def forward(self, **inputs: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise self.error
        return self.model(**inputs)


@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError("broken"), ValueError), (MemoryError("no memory"), OutOfMemory)]
)
def test_an_error_is_the_readers_of_that_model_and_replies_go_on(
    loaded: LoadedModel, error: Exception, raised: type[Exception]
) -> None:
    batching = ContinuousBatching()
    broken = Breaks(loaded.model, error)
    with HeldReplies(batching, loaded.tokenizer) as held:
        hurt = [Reader(batching, loaded, QUESTIONS[2], lambda: broken) for _ in range(2)]
        whole = Reader(batching, loaded, QUESTIONS[2])
        held.until(3)
    for reader in hurt:
        with pytest.raises(raised):
            reader.end()
    assert whole.end() == alone(loaded, QUESTIONS[2])

    def none() -> Any:
        raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        Reader(batching, loaded, QUESTIONS[1], none).end()
    assert Reader(batching, loaded, QUESTIONS[1]).end() == alone(loaded, QUESTIONS[1])


@pytest.mark.parametrize(("rows", "cells", "most"), [(3, 10**6, 3), (100, 1, 1)])
def test_only_so_many_go_together_and_the_others_come_in_the_order_of_asking(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, rows: int, cells: int, most: int
) -> None:
    monkeypatch.setattr(continuous_batching, "MOST_ROWS", rows)
    monkeypatch.setattr(continuous_batching, "MOST_CELLS", cells)
    batching, began = ContinuousBatching(), list[int]()
    seen, hook = rows_a_forward(loaded.model)
    with HeldReplies(batching, loaded.tokenizer) as held:
        readers = []
        for place in range(9):

            def model(place: int = place) -> Any:
                began.append(place)
                return loaded.model

            readers.append(Reader(batching, loaded, QUESTIONS[place % len(QUESTIONS)], model))
            held.until(place + 1)
    said = [reader.end() for reader in readers]
    hook.remove()
    assert began == list(range(9))
    assert max(count for count, _ in seen) == most
    assert said == [alone(loaded, QUESTIONS[place % len(QUESTIONS)]) for place in range(9)]


def test_the_thread_ends_when_nothing_is_asked_and_comes_back(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous_batching, "IDLE_SECONDS", 0.01)
    batching = ContinuousBatching()
    for _ in range(2):
        assert Reader(batching, loaded, QUESTIONS[0]).end()
        thread = batching._thread
        if thread is not None:
            thread.join(WAIT)
        assert batching._thread is None


def test_a_reply_whose_text_cannot_be_made_fails_alone_and_the_next_one_comes(loaded: LoadedModel) -> None:
    def broken(*arguments: Any, **how: Any) -> str:
        raise ValueError("no text for these tokens")

    tokenizer = copy.copy(loaded.tokenizer)
    tokenizer.decode = broken
    batching = ContinuousBatching()
    with pytest.raises(ValueError, match="no text"):
        Reader(batching, replace(loaded, tokenizer=tokenizer), QUESTIONS[0]).end()
    assert Reader(batching, loaded, QUESTIONS[0]).end() == alone(loaded, QUESTIONS[0])


def test_a_model_that_is_no_language_model_fails_the_reply_and_the_next_one_comes(loaded: LoadedModel) -> None:
    batching = ContinuousBatching()
    with pytest.raises((AttributeError, TypeError)):
        Reader(batching, loaded, QUESTIONS[0], lambda: torch.nn.Linear(1, 1)).end()
    assert Reader(batching, loaded, QUESTIONS[1]).end() == alone(loaded, QUESTIONS[1])
