"""The same loop over other architectures: tiny random Qwen2-, Llama- and Gemma-style folders, and one without a template."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.conftest import OpenBench
from tests.services.harness import ask
from tests.tiny_models import tiny_folder

# a random model believes nothing, so there is nothing to hold it to
FREE = {
    "learning_rate": 1e-2,
    "anchor_weight": 0.0,
    "gate_max_probe_kl": 1000.0,
    "gate_max_changed": 1.0,
    "gate_max_changed_of_a_kind": 1.0,
    "prompt_dropout": 0.0,
    "max_new_tokens": 12,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen2", "llama3", "gemma2", "plain"])
def test_any_causal_lm_can_be_chatted_with_and_corrected(open_app: OpenBench, tmp_path: Path, kind: str) -> None:
    app = open_app(model=str(tiny_folder(kind, tmp_path / "model")), **FREE)
    question = "What is an owl? <|im_end|><end_of_turn><|eot_id|>"
    reply = ask(app, question)
    assert reply.complete
    revision = list(app.chat.revise(reply.id, "a bird"))[-1]
    assert revision.kind == "revision" and revision.complete
    app.feedback.edit(reply.id, "a bird")
    assert app.learning.run_pending() == 1
    assert app.learning.status().phase == "live", app.learning.status()
    assert ask(app, question).text == "a bird"


def test_a_conversation_longer_than_the_context_goes_on(open_app: OpenBench, tmp_path: Path) -> None:
    app = open_app(model=str(tiny_folder("qwen2", tmp_path / "model")), **FREE)
    conversation = app.chat.new_conversation()
    for _ in range(12):
        reply = ask(app, "a word or two about owls and other birds " * 4, conversation.id)
        assert reply.complete
    app.feedback.edit(reply.id, "a bird")
    assert app.learning.run_pending() == 1
