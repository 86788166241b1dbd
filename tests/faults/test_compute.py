"""Memory and compute that fail: a round ends, not the app; a reply ends; what cannot be is said in one sentence."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from services.app import AppServices, open_services
from services.settings import Settings
from spear_core.errors import ModelUnavailable, OutOfMemory
from spear_core.inference.fused_model import FusedModel
from spear_core.training.trainer import Progress
from tests.faults.quick import FREE, open_quick, teach
from tests.services.harness import ask
from tests.tiny_models import CONTEXT_TOKENS, tiny_folder

QUESTION, ANSWER = "What is an owl?", "a bird"
FAR_TOO_MUCH = 1 << 50  # bytes: more than any machine's address space gives
ALLOCATIONS: dict[str, Callable[[], object]] = {
    "torch": lambda: torch.empty(FAR_TOO_MUCH, dtype=torch.uint8),  # RuntimeError: can't allocate memory
    "python": lambda: bytearray(FAR_TOO_MUCH),  # MemoryError
}


def serving_state(app: AppServices) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in app.engine.shared_models.serving.model.state_dict().items()}


def in_step(app: AppServices, number: int, act: Callable[[], object]) -> None:
    """Let something happen after that step of the next trainings."""

    def on_step(progress: Progress) -> None:
        if progress.step == number:
            act()

    app.learning._on_step = on_step  # type: ignore[method-assign]


def unharmed(app: AppServices, before: dict[str, torch.Tensor], why: str) -> None:
    """The round is discarded with a reason, what served serves, and the next correction is learned."""
    [last, *_] = app.engine.store.rounds(app.engine.base)
    assert last.status == "discarded" and why in last.verdict and "\n" not in last.verdict, last.verdict
    after = serving_state(app)
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    assert not app.engine.store.traces(status="claimed")
    assert all(p.grad is None for p in app.engine.shared_models.training.parameters()), "memory is given back"
    assert ask(app, QUESTION).text == ANSWER
    app.learning._on_step = lambda progress: None  # type: ignore[method-assign]
    teach(app, "What is a harp?", "strings")
    assert app.learning.run_pending() == 1 and app.learning.lineage.version == 2
    assert ask(app, "What is a harp?").text == "strings"


@pytest.fixture
def taught(tmp_path: Path) -> Any:
    app = open_quick(tmp_path / "data")
    teach(app, QUESTION, ANSWER)
    app.learning.run_pending()
    assert app.learning.lineage.version == 1
    yield app
    app.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(ALLOCATIONS))
def test_an_allocation_that_fails_in_training_ends_the_round_and_not_the_app(taught: AppServices, kind: str) -> None:
    before = serving_state(taught)
    teach(taught, "What is a violin?", "an instrument")
    in_step(taught, 2, ALLOCATIONS[kind])
    assert taught.learning.run_pending() == 1
    status = taught.learning.status()
    assert status.phase == "failed" and "not enough memory" in status.detail and status.adapter_version == 1
    unharmed(taught, before, "not enough memory")


@pytest.mark.parametrize("kind", sorted(ALLOCATIONS))
def test_an_allocation_that_fails_in_a_reply_is_one_sentence_and_the_next_reply_comes(
    taught: AppServices, kind: str
) -> None:
    conversation = taught.chat.new_conversation().id
    layer = embedding_of(taught)
    hook = layer.register_forward_hook(lambda *_: ALLOCATIONS[kind]())
    with pytest.raises(OutOfMemory, match="not enough memory for this reply"):
        ask(taught, QUESTION, conversation)
    hook.remove()
    assert ask(taught, QUESTION, conversation).text == ANSWER


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_a_number_discards_the_round(taught: AppServices, value: float) -> None:
    before = serving_state(taught)
    teach(taught, "What is a violin?", "an instrument")
    in_step(taught, 1, lambda: poison(taught, value))
    assert taught.learning.run_pending() == 1
    unharmed(taught, before, "not a finite number")


def test_weights_that_break_in_the_last_step_are_stopped_by_the_gate(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    teach(app, QUESTION, ANSWER)
    app.learning.run_pending()
    app.close()
    app = open_quick(tmp_path / "data", stop_when_learned=False, max_steps=2)
    before = serving_state(app)
    teach(app, "What is a violin?", "an instrument")
    in_step(app, 2, lambda: poison(app, float("nan")))
    app.learning.run_pending()
    [last, *_] = app.engine.store.rounds(app.engine.base)
    assert last.status == "discarded" and last.verdict.startswith("Not kept: ")
    after = serving_state(app)
    assert all(torch.equal(before[n], after[n]) for n in before) and ask(app, QUESTION).text == ANSWER
    app.close()


def poison(app: AppServices, value: float) -> None:
    """One weight of the training adapter, as a broken kernel or a flipped bit would leave it."""
    trained = next(p for p in app.engine.shared_models.training.parameters() if p.requires_grad)
    with torch.no_grad():
        trained.view(-1)[0] = value


def make_model(folder: Path, context_tokens: int) -> None:
    tiny_folder("qwen2", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": context_tokens}))


@pytest.mark.parametrize("context_tokens", [1, 63])
def test_a_model_whose_context_holds_no_question_is_refused_in_one_sentence(
    tmp_path: Path, context_tokens: int
) -> None:
    make_model(tmp_path / "qwen2", context_tokens)
    with pytest.raises(ModelUnavailable, match=f"takes {context_tokens} tokens at a time.*at least 64") as caught:
        open_quick(tmp_path / "data")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("context_tokens", [64, 65, 80])
def test_a_model_with_a_tiny_context_chats_revises_and_learns(tmp_path: Path, context_tokens: int) -> None:
    make_model(tmp_path / "qwen2", context_tokens)
    app = open_quick(tmp_path / "data", max_new_tokens=64)
    assert app.engine.loaded.context_tokens == context_tokens
    conversation = app.chat.new_conversation().id
    for _ in range(3):
        reply = ask(app, "Tell me everything that you know about owls and other birds of the night. " * 5, conversation)
        assert reply.complete
    assert list(app.chat.revise(reply.id, "shorter, please, and about one bird only " * 5))[-1].complete
    app.feedback.edit(reply.id, "an owl is a bird of the night that hunts mice and other small animals " * 5)
    app.feedback.like(ask(app, QUESTION).id)
    assert app.learning.run_pending() == 1
    assert app.learning.status().phase in ("live", "not_kept"), app.learning.status()
    assert ask(app, QUESTION, conversation).complete
    app.close()


def endless(tmp_path: Path) -> AppServices:
    """A model whose replies never end by themselves: it cannot say its end token. What bounds them is the app."""
    app = open_quick(tmp_path / "data", max_new_tokens=8192)
    loaded = app.engine.loaded
    loaded.model.generation_config.suppress_tokens = sorted(app.engine.encoder.end_ids)
    return app


def test_a_reply_that_never_ends_is_bounded_by_half_the_context(tmp_path: Path) -> None:
    app = endless(tmp_path)
    layer, steps = embedding_of(app), []
    assert FusedModel.of(app.engine.shared_models.base)  # compared once with the model's own forward
    layer.register_forward_hook(lambda *_: steps.append(1))  # one forward a token
    assert ask(app, QUESTION).complete
    assert len(steps) == CONTEXT_TOKENS // 2
    app.close()


def embedding_of(app: AppServices) -> torch.nn.Module:
    """Of what serves: every forward goes through it once."""
    return next(m for m in app.engine.shared_models.serving.model.modules() if isinstance(m, torch.nn.Embedding))


def test_a_reply_that_never_ends_is_stopped_when_asked_and_keeps_what_it_has(tmp_path: Path) -> None:
    app = endless(tmp_path)
    whole = ask(app, QUESTION).text
    conversation = app.chat.new_conversation().id
    begun, slow = threading.Event(), threading.Event()
    layer, steps = embedding_of(app), []

    def hook(*_: object) -> None:  # from the tenth token on wait for the stop, so that it comes in the middle
        steps.append(1)
        if len(steps) == 10:
            begun.set()
            slow.wait(timeout=60)

    handle = layer.register_forward_hook(hook)
    shown: list[Any] = []
    reading = threading.Thread(target=lambda: shown.extend(app.chat.reply(conversation, QUESTION)))
    reading.start()
    assert begun.wait(timeout=60)
    app.chat.stop(conversation)
    slow.set()
    reading.join(timeout=60)
    handle.remove()
    assert not reading.is_alive() and len(steps) <= 12, "at most the token under way"
    stored = app.chat.messages(conversation)[-1]
    assert stored.complete and stored.text == shown[-1].text
    assert whole.startswith(stored.text.rstrip("\ufffd")) and len(stored.text) < len(whole)  # cut inside a character
    assert ask(app, QUESTION, conversation).complete
    app.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_one_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_folder("qwen2", tmp_path / "model")
    settings = Settings(model=str(model), data_folder=tmp_path / "data", device="cuda", spear=dict(FREE))
    with caplog.at_level(logging.WARNING), pytest.raises(ModelUnavailable) as caught:
        open_services(settings, start_jobs=False)
    assert str(caught.value) == "torch finds no cuda device on this machine; use --device cpu"
