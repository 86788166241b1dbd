"""The scope classifier: read as it was written, the base untouched, another model's refused. Tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spear_core.errors import ConfigError
from spear_core.inference.scope import Taught
from spear_core.inference.scope_classifier import (
    BOTH_PERSONAL,
    FILE,
    IMPERSONAL,
    ScopeClassifier,
    load_scope_classifier,
)
from spear_core.models.loading import load_model
from tests.spear_core.inference.tiny_backbone import backbone

ROOT = Path(__file__).resolve().parents[3]
PAIRS = [("What is my cat called?", "Name of my cat?"), ("What is my cat called?", "What is my dog called? Tell me.")]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_model(str(ROOT / "assets" / "pocket-model")).tokenizer


def random_classifier(tokenizer: Any) -> ScopeClassifier:
    made = ScopeClassifier(backbone(tokenizer), tokenizer, 3, 1, 2)
    for name, parameter in made.named_parameters():
        if parameter.requires_grad:
            torch.manual_seed(len(name))
            torch.nn.init.normal_(parameter, std=0.3)
            parameter.data = parameter.data.bfloat16().float()  # as a file keeps it
    return made.eval()


def test_what_is_saved_is_read_again(tokenizer: Any, tmp_path: Path) -> None:
    made = random_classifier(tokenizer)
    made.save(tmp_path / FILE, {"families": 3})
    read = load_scope_classifier(tmp_path / FILE, backbone(tokenizer), tokenizer)
    assert torch.allclose(made(PAIRS), read(PAIRS), atol=1e-5)
    assert not any(p.requires_grad for p in read.parameters())


def test_a_pair_alone_has_the_odds_that_it_has_among_others(tokenizer: Any) -> None:
    made = random_classifier(tokenizer)
    alone = torch.cat([made([pair]) for pair in PAIRS]).detach()
    assert torch.allclose(made(PAIRS).detach(), alone, atol=1e-5) and abs(float(alone[0] - alone[1])) > 1e-3


def test_either_question_is_read_first_once(tokenizer: Any) -> None:
    made = random_classifier(tokenizer)
    (there,), (back,) = made.odds([PAIRS[0][0]], PAIRS[0][1]), made.odds([PAIRS[0][1]], PAIRS[0][0])
    assert there == pytest.approx(back, abs=1e-5)
    scores = made.scores(PAIRS[0][1], [Taught(PAIRS[0][0], "Luna.")])
    assert scores == pytest.approx([there + BOTH_PERSONAL])
    assert made.odds([], "What?") == []


@pytest.mark.parametrize(
    ("taught", "asked", "more"),
    [
        ("What is my cat called?", "What is a cat?", IMPERSONAL),
        ("What is my cat called?", "Tell me about cats.", IMPERSONAL),
        ("What's our password?", "What is a good password?", IMPERSONAL),
        ("What is my cat called?", "Do I have a cat?", BOTH_PERSONAL),
        ("What is my cat called?", "I've forgotten the cat's name.", BOTH_PERSONAL),
        ("What is the capital of Peru?", "Tell me the capital of Peru.", 0.0),
        ("What is the capital of Peru?", "What is my capital of Peru?", 0.0),
    ],
)
def test_a_general_question_must_be_nearer_to_a_personal_one(
    tokenizer: Any, taught: str, asked: str, more: float
) -> None:
    made = random_classifier(tokenizer)
    (odds,), (score,) = made.odds([taught], asked), made.scores(asked, [Taught(taught, "Luna.")])
    assert score - odds == pytest.approx(more)


def test_what_was_compared_is_kept_until_it_is_forgotten(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = random_classifier(tokenizer)
    first = made.odds([PAIRS[0][0], "Why?"], PAIRS[0][1])
    monkeypatch.setattr(made, "forward", lambda pairs: torch.full((len(pairs),), 9.0))
    assert made.odds([PAIRS[0][0], "Why?", "Who?"], PAIRS[0][1]) == [*first, 9.0]
    made.forget()
    assert made.odds([PAIRS[0][0]], PAIRS[0][1]) == [9.0]


def test_pairs_read_together_have_the_odds_that_each_has_alone(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, other = random_classifier(tokenizer), random_classifier(tokenizer)
    asked = {f"What is number {i}{' and the next one' * (i % 3)}?": i for i in range(40)}
    taught = [Taught("What is my cat called?", "Luna."), Taught("Which number is it?", "4.")]
    made.read({question: taught[: 1 + i % 2] for question, i in asked.items()})
    with monkeypatch.context() as patch:
        patch.setattr(made, "forward", None)  # everything is remembered
        found = {question: made.scores(question, taught[: 1 + i % 2]) for question, i in asked.items()}
    for question, i in asked.items():
        assert found[question] == pytest.approx(other.scores(question, taught[: 1 + i % 2]), abs=1e-5)


def test_the_base_model_and_the_layers_above_are_left_as_they_are(tokenizer: Any) -> None:
    base = backbone(tokenizer)
    before = {name: p.clone() for name, p in base.named_parameters()}
    made = ScopeClassifier(base, tokenizer, 3, 1, 2)
    made(PAIRS).sum().backward()
    assert len(base.layers) == 4 and base.config.num_hidden_layers == 4
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in base.named_parameters())
    adapted = {name.split("layers.")[1].split(".")[0] for name, p in made.model.named_parameters() if p.requires_grad}
    assert adapted == {"1", "2"}


@pytest.mark.parametrize("fault", ["missing", "damaged", "other model", "tensor missing"])
def test_a_file_that_does_not_fit_is_refused_with_a_sentence(tokenizer: Any, tmp_path: Path, fault: str) -> None:
    file = tmp_path / FILE
    made = random_classifier(tokenizer)
    made.save(file, {})
    if fault == "missing":
        file.unlink()
    elif fault == "damaged":
        file.write_bytes(file.read_bytes()[:200])
    elif fault == "tensor missing":
        tensors = load_file(file)
        tensors.pop(next(name for name in tensors if "lora_A" in name))
        save_file(tensors, file, {"layers": "3", "frozen": "1", "rank": "2"})
    with pytest.raises(ConfigError, match=FILE):
        load_scope_classifier(file, backbone(tokenizer, 64 if fault == "other model" else 32), tokenizer)
