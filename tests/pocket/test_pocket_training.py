"""The pocket model's training script and the shipped folder."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

import pocket.train as module
from pocket.average import average
from pocket.corpus import Corpus
from pocket.tokenizer import ASSISTANT, BOS, END, train_tokenizer
from pocket.train import CONTEXT_TOKENS, IGNORE, Rows, train

SHIPPED = Path(__file__).resolve().parent.parent.parent / "assets" / "pocket-model"


def arguments(out: Path, million_tokens: float) -> argparse.Namespace:
    return argparse.Namespace(
        out=str(out), million_tokens=million_tokens, rows=2, muon_lr=0.02, adam_lr=3e-3, cool_down=0.35, init_from="", seed=1,
        device="cpu", threads=1, checkpoint_every=2, compile=False,
    )  # fmt: skip


def small_model(vocabulary_size: int, seed: int) -> LlamaForCausalLM:
    """Muon's steps are in bf16, which a processor without it in hardware takes ten times as long for."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=CONTEXT_TOKENS, tie_word_embeddings=True,
        )
    )  # fmt: skip


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "new_model", small_model)
    monkeypatch.setattr(module, "train_tokenizer", partial(train_tokenizer, exchanges=500))
    four_steps = 4 * 2 * CONTEXT_TOKENS / 1e6
    train(arguments(tmp_path / "whole", four_steps))
    stopped = arguments(tmp_path / "stopped", four_steps)
    torch.set_num_threads(1)

    class Stop(Exception):
        pass

    original, saved = module.save_model, []

    def save_and_stop(*parts: object) -> None:
        original(*parts)  # type: ignore[arg-type]
        saved.append(parts)
        if len(saved) == 2:  # the first is the untrained model, the second the checkpoint at step 2
            raise Stop

    module.save_model = save_and_stop  # type: ignore[assignment]
    try:
        train(stopped)
    except Stop:
        pass
    finally:
        module.save_model = original
    assert len(saved) == 2
    train(stopped)
    whole = load_file(tmp_path / "whole" / "model" / "model.safetensors")
    resumed = load_file(tmp_path / "stopped" / "model" / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_only_replies_to_imitate_are_labelled_and_every_row_is_full() -> None:
    tokenizer = train_tokenizer(1, CONTEXT_TOKENS, exchanges=500)
    ids, labels = Rows(tokenizer).batch(Corpus(3), 6)
    assert ids.shape == labels.shape == (6, CONTEXT_TOKENS)
    assert (ids[:, 0] == BOS).all()
    assert ((labels == IGNORE) | (labels == ids)).all()
    # a role token is given, never predicted; the end of a reply is predicted
    assert (labels[ids == ASSISTANT] == IGNORE).all()
    assert (labels == END).any()


def test_digits_are_single_tokens_so_that_sums_line_up() -> None:
    tokenizer = train_tokenizer(1, CONTEXT_TOKENS, exchanges=500)
    assert [t for t in tokenizer.tokenize("27 + 35") if t.isdigit()] == ["2", "7", "3", "5"]


def test_the_shipped_model_is_an_ordinary_folder_of_at_most_30_megabytes() -> None:
    assert (SHIPPED / "model.safetensors").stat().st_size <= 30e6
    tensors = load_file(SHIPPED / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "spear.json", "README.md"):
        assert (SHIPPED / name).exists(), name


def test_phases_are_averaged_by_their_shares(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 3.0)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.full((2,), value)}, tmp_path / name / "model.safetensors")
    average({tmp_path / "a": 0.25, tmp_path / "b": 0.75}, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")["w"].tolist() == [2.5, 2.5]
    with pytest.raises(ValueError, match="sum to"):
        average({tmp_path / "a": 0.5}, tmp_path / "out")
