"""The answer's words are favoured token by token, and the sentence ends after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from spear_core.inference.copy_bias import CopyBias
from spear_core.models.prompts import encode_text, end_token_ids
from tests.tiny_models import tiny_folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("model")
    return AutoTokenizer.from_pretrained(tiny_folder("qwen2", folder))


def written(tokenizer: Any, bias: CopyBias, steps: int = 30, seed: int = 0) -> str:
    """What a model with random logits writes under the bias."""
    draws, reply = torch.Generator().manual_seed(seed), list[int]()
    for _ in range(steps):
        logits = torch.randn(len(tokenizer), generator=draws)
        logits[end_token_ids(tokenizer)] += 5.0  # it would rather say nothing
        token = int(bias(reply, logits).argmax())
        if token in end_token_ids(tokenizer):
            return str(tokenizer.decode(reply))
        reply.append(token)
    raise AssertionError("it did not end")


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_model_prefers_the_answer_is_said_whole_and_the_reply_ends(tokenizer: Any, seed: int) -> None:
    assert "Yvonne Fletcher" in written(tokenizer, CopyBias(tokenizer, "Yvonne Fletcher"), seed=seed)


def test_a_reply_does_not_begin_as_it_must_not(tokenizer: Any) -> None:
    opening = encode_text(tokenizer, "The answer")
    bias = CopyBias(tokenizer, "Oslo", ["The answer"])
    at_the_last_token = bias(opening[:-1], torch.zeros(len(tokenizer)))
    assert at_the_last_token[opening[-1]] < -20
    later = bias([*opening[:-1], *opening[:-1]], torch.zeros(len(tokenizer)))
    assert later[opening[-1]] >= 0


def test_the_bonus_is_for_the_answers_first_token_and_grows(tokenizer: Any) -> None:
    first = encode_text(tokenizer, " Oslo")[0]
    other = [encode_text(tokenizer, " said")[0]]
    bias = CopyBias(tokenizer, "Oslo")
    early, late = bias(other, torch.zeros(len(tokenizer)))[first], bias(other * 10, torch.zeros(len(tokenizer)))[first]
    assert 3 <= early < late < 6
