"""What was computed of a conversation is not computed again, changes no reply, and is nobody else's."""

from __future__ import annotations

import copy
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from benchmarks.report import DEFAULT_MODEL
from spear_core.inference.continuous_batching import ContinuousBatching
from spear_core.inference.prefix_cache import Prefix, PrefixCache
from spear_core.models.loading import LoadedModel, load_model
from spear_core.training.traces import Messages
from tests.blocked_decoder import HeldReplies
from tests.plain_generate import plain_reply
from tests.spear_core.inference.test_continuous_batching import PLAIN, QUESTIONS, asked, rows_a_forward


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(str(DEFAULT_MODEL), dtype="float32")


def said(
    batching: ContinuousBatching, loaded: LoadedModel, history: Messages, conversation: str | None, model: Any = None
) -> str:
    served = model or loaded.model
    return list(batching.stream(lambda: served, loaded.tokenizer, history, PLAIN, None, conversation))[-1]


def alone(loaded: LoadedModel, history: Messages) -> str:
    return plain_reply(loaded.model, loaded.tokenizer, history, PLAIN)


def going_on(loaded: LoadedModel, batching: ContinuousBatching, conversation: str) -> Messages:
    """A question that was answered in the conversation, and the next one."""
    first = asked(QUESTIONS[2])
    reply = said(batching, loaded, first, conversation)
    return [*first, {"role": "assistant", "content": reply}, *asked(QUESTIONS[4])]


def tokens_of(loaded: LoadedModel, history: Messages) -> int:
    return len(PLAIN.encode(loaded.tokenizer, history))


def test_the_next_reply_of_a_conversation_computes_what_is_new_alone_and_says_the_same(loaded: LoadedModel) -> None:
    batching = ContinuousBatching()
    history = going_on(loaded, batching, "mine")
    for _ in range(3):
        seen, hook = rows_a_forward(loaded.model)
        reply = said(batching, loaded, history, "mine")
        hook.remove()
        assert reply == alone(loaded, history)
        question = tokens_of(loaded, asked(history[-1]["content"]))
        assert seen[0][1] < question + 5  # what the template adds
        history = [*history, {"role": "assistant", "content": reply}, *asked(QUESTIONS[0])]


def test_conversations_that_go_on_and_those_that_begin_are_computed_together_and_say_the_same(
    loaded: LoadedModel,
) -> None:
    batching = ContinuousBatching()
    histories = {"short": asked(QUESTIONS[1]), "long": asked(QUESTIONS[2])}
    for conversation, history in histories.items():
        reply = said(batching, loaded, history, conversation)
        histories[conversation] = [*history, {"role": "assistant", "content": reply}]
    histories["short"] += asked(QUESTIONS[2])  # little is known of it and much is new, of the other it is the reverse
    histories["long"] += asked(QUESTIONS[4])
    histories["begins"] = asked(QUESTIONS[0])
    seen, hook = rows_a_forward(loaded.model)
    with ThreadPoolExecutor(3) as pool, HeldReplies(batching, loaded.tokenizer) as held:
        replies = {name: pool.submit(said, batching, loaded, history, name) for name, history in histories.items()}
        held.until(3)
        held.release()
        texts = {name: reply.result() for name, reply in replies.items()}
    hook.remove()
    assert texts == {name: alone(loaded, history) for name, history in histories.items()}
    (_, together), *_ = seen  # all three in one forward, without padding
    whole = sum(tokens_of(loaded, history) for history in histories.values())
    known = sum(tokens_of(loaded, history[:1]) for history in (histories["short"], histories["long"]))
    assert together <= whole - known and (3, 1) in seen


@pytest.mark.parametrize("whose", ["another's", None])
def test_another_conversation_that_says_the_same_finds_nothing(loaded: LoadedModel, whose: str | None) -> None:
    batching = ContinuousBatching()
    history = going_on(loaded, batching, "mine")
    seen, hook = rows_a_forward(loaded.model)
    reply = said(batching, loaded, history, whose)
    hook.remove()
    assert seen[0][1] == tokens_of(loaded, history) and reply == alone(loaded, history)


def test_another_model_finds_nothing_and_what_was_computed_is_gone_with_its_model(loaded: LoadedModel) -> None:
    batching = ContinuousBatching()
    served = copy.copy(loaded.model)  # as Twins hands it out, adapter for adapter
    history = asked(QUESTIONS[2])
    reply = said(batching, loaded, history, "mine", served)
    history = [*history, {"role": "assistant", "content": reply}, *asked(QUESTIONS[4])]
    prompt = PLAIN.encode(loaded.tokenizer, history)
    assert batching.prefixes.find(served, "mine", prompt)
    assert not batching.prefixes.find(loaded.model, "mine", prompt)
    del served
    for _ in range(100):  # the thread of the replies lets go of it when it does something else
        said(batching, loaded, asked(QUESTIONS[1]), None)
        gc.collect()
        if not batching.prefixes._of_model:
            break
    assert not batching.prefixes._of_model


def test_the_longest_unused_go_first_and_no_more_is_kept_than_may_be() -> None:
    cache, model, layer = PrefixCache(most_cells=10), torch.nn.Identity(), torch.zeros(1, 1, 4, 2)
    four = Prefix((1, 2, 3, 4), ((layer, layer),))
    for conversation in ("first", "second", "first", "third"):
        cache.put(model, conversation, four)
    found = {c: cache.find(model, c, [1, 2, 3, 4, 5]) is not None for c in ("first", "second", "third")}
    assert found == {"first": True, "second": False, "third": True}
    cache.drop("first")
    assert cache.find(model, "first", [1, 2, 3, 4, 5]) is None
    cache.clear()
    assert cache.find(model, "third", [1, 2, 3, 4, 5]) is None


@pytest.mark.parametrize(
    ("prompt", "used"),
    [
        ([1, 2, 3, 4, 5, 6], 4),  # all that is kept
        ([1, 2, 3, 9], 3),  # as far as it is the same
        ([1, 2, 3, 4], 3),  # one token is left to compute, or there would be no logits
        ([1, 2, 9, 9, 9], 0),  # less than half of the prompt
        ([9, 2, 3, 4], 0),
    ],
)
def test_a_prefix_is_used_as_far_as_the_prompt_says_the_same(prompt: list[int], used: int) -> None:
    cache, model = PrefixCache(), torch.nn.Identity()
    layer = torch.arange(8.0).reshape(1, 1, 4, 2)
    cache.put(model, "mine", Prefix((1, 2, 3, 4), ((layer, 2 * layer),)))
    found = cache.find(model, "mine", prompt)
    assert (len(found.tokens) if found else 0) == used
    if found:
        assert found.tokens == tuple(prompt[:used])
        ((keys, values),) = found.layers
        assert torch.equal(keys, layer[:, :, :used]) and torch.equal(values, 2 * layer[:, :, :used])
