"""The correction classifier: read as it was written, another model's refused, nothing kept of what people say. Tiny models."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spear_core.errors import ConfigError
from spear_core.inference.correction_classifier import (
    FILE,
    REPLY_WORDS,
    STATES,
    CorrectionClassifier,
    FollowUpStates,
    Least,
    fit,
    load_correction_classifier,
    takes,
)
from spear_core.inference.corrections import FollowUp, Sign, cue, may_state
from spear_core.models.loading import load_model
from tests.spear_core.inference.tiny_backbone import backbone

ROOT = Path(__file__).resolve().parents[3]
LEAST = Least(none=0.5, weak=2.0, strong=-1.0)
SAID = FollowUp("How do I descale a kettle?", "Use bleach.", "omg never, vinegar or citric acid")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_model(str(ROOT / "assets" / "pocket-model")).tokenizer


def random_classifier(tokenizer: Any) -> CorrectionClassifier:
    torch.manual_seed(5)
    return CorrectionClassifier(
        FollowUpStates(backbone(tokenizer), tokenizer, 2),
        torch.randn(STATES * 32),
        torch.tensor([0.0, 1.0, 2.0]),
        LEAST,
    )


def test_what_is_saved_is_read_again(tokenizer: Any, tmp_path: Path) -> None:
    made = random_classifier(tokenizer)
    made.save(tmp_path / FILE)
    read = load_correction_classifier(tmp_path / FILE, backbone(tokenizer), tokenizer)
    assert read.odds(SAID, Sign.WEAK) == pytest.approx(made.odds(SAID, Sign.WEAK), abs=1e-5)
    assert (read.least, read.states.layer) == (LEAST, 2)
    assert read.odds(SAID, Sign.STRONG) - read.odds(SAID, Sign.NONE) == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize(
    ("odds", "sign", "is_taken"),
    [
        (0.6, Sign.NONE, True),
        (0.4, Sign.NONE, False),
        (2.1, Sign.WEAK, True),
        (1.9, Sign.WEAK, False),
        (-0.9, Sign.STRONG, True),
        (-1.1, Sign.STRONG, False),
    ],
)
def test_what_is_taken_depends_on_the_sign_of_the_words(odds: float, sign: Sign, is_taken: bool) -> None:
    assert takes(LEAST, odds, sign) is is_taken


def test_a_correction_is_what_reaches_the_least_odds(tokenizer: Any) -> None:
    made = random_classifier(tokenizer)
    assert made.is_correction(SAID, Sign.NONE) is (made.odds(SAID, Sign.NONE) >= LEAST.none)


def test_question_reply_and_message_are_read_and_of_a_long_reply_its_beginning(tokenizer: Any) -> None:
    states = FollowUpStates(backbone(tokenizer), tokenizer, 2)
    long = " ".join(["word"] * REPLY_WORDS)
    same = [states(FollowUp("a", f"{long} {end}", "c")) for end in ("x", "y")]
    assert torch.equal(*same)
    plain = states(SAID)
    for other in (FollowUp("Why?", SAID.reply, SAID.message), FollowUp(SAID.question, "Soap.", SAID.message)):
        assert not torch.allclose(states(other), plain)
    assert not torch.allclose(states(FollowUp(SAID.question, SAID.reply, "thanks")), plain)


def test_nothing_is_kept_of_what_was_said(tokenizer: Any) -> None:
    made = random_classifier(tokenizer)
    made.odds(SAID, Sign.NONE)
    assert len(made.states._trunk.cache) == 0


@pytest.mark.parametrize("fault", ["other model", "no such layer", "cut off", "no metadata"])
def test_a_file_of_another_model_or_a_damaged_one_is_refused_with_a_sentence(
    fault: str, tokenizer: Any, tmp_path: Path
) -> None:
    file = tmp_path / FILE
    random_classifier(tokenizer).save(file)
    if fault == "cut off":
        file.write_bytes(file.read_bytes()[:100])
    if fault == "no metadata":
        save_file({"weight": torch.zeros(STATES * 32), "of_sign": torch.zeros(3)}, file)
    if fault == "no such layer":
        save_file(
            {"weight": torch.zeros(STATES * 32), "of_sign": torch.zeros(3)},
            file,
            {"layer": "9", "least": json.dumps(asdict(LEAST))},
        )
    with pytest.raises(ConfigError, match=FILE):
        load_correction_classifier(file, backbone(tokenizer, 64 if fault == "other model" else 32), tokenizer)


def test_a_fit_tells_the_two_kinds_of_states_apart() -> None:
    torch.manual_seed(1)
    direction = torch.randn(16)
    truth = [i % 2 == 0 for i in range(80)]
    states = [torch.randn(16) + (direction if is_one else -direction) for is_one in truth]
    signs = [Sign.STRONG if i % 4 == 0 else Sign.NONE for i in range(80)]
    weight, of_sign = fit(states, signs, truth, 0.01)
    found = [float(s @ weight + of_sign[sign]) > 0 for s, sign in zip(states, signs, strict=True)]
    assert sum(a == b for a, b in zip(found, truth, strict=True)) >= 78
    assert of_sign[Sign.STRONG] > of_sign[Sign.NONE], "only corrections had a strong sign"


def test_what_can_be_a_correction_states_something_and_is_short_and_no_question() -> None:
    question, reply = "How do I descale a kettle?", "Use bleach."
    assert may_state(SAID) and cue(SAID) is Sign.NONE
    for message in ("really?", "that's wrong", "shorter please", "", "word " * 41):
        assert not may_state(FollowUp(question, reply, message)), message
