"""The same loop over other architectures: tiny random Qwen2-, Llama- and Gemma-style folders, and one without a template."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.bench_desk import ask
from tests.services.conftest import OpenBench
from tests.tiny_models import tiny_folder

# a random model believes nothing, so there is nothing to hold it to
FREE = {
    "learning_rate": 1e-2,
    "anchor_weight": 0.0,
    "gate_max_probe_kl": 1000.0,
    "prompt_dropout": 0.0,
    "max_new_tokens": 12,
}


@pytest.mark.parametrize("kind", ["qwen2", "llama3", "gemma2", "plain"])
def test_any_causal_lm_can_be_chatted_with_and_corrected(open_bench: OpenBench, tmp_path: Path, kind: str) -> None:
    bench = open_bench(model=str(tiny_folder(kind, tmp_path / "model")), **FREE)
    question = "What is an owl? <|im_end|><end_of_turn><|eot_id|>"
    reply = ask(bench, question)
    assert reply.complete
    revision = list(bench.chat.revise(reply.id, "a bird"))[-1]
    assert revision.kind == "revision" and revision.complete
    bench.feedback.edit(reply.id, "a bird")
    assert bench.learning.run_pending() == 1
    assert bench.learning.status().phase == "live", bench.learning.status()
    assert ask(bench, question).text == "a bird"


def test_a_conversation_longer_than_the_context_goes_on(open_bench: OpenBench, tmp_path: Path) -> None:
    bench = open_bench(model=str(tiny_folder("qwen2", tmp_path / "model")), **FREE)
    conversation = bench.chat.new_conversation()
    for _ in range(12):
        reply = ask(bench, "a word or two about owls and other birds " * 4, conversation.id)
        assert reply.complete
    bench.feedback.edit(reply.id, "a bird")
    assert bench.learning.run_pending() == 1
