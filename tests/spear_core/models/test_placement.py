"""Where a model is put when that is left to the app. Memory is given as numbers: no accelerator is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from spear_core.errors import ModelUnavailable
from spear_core.models import loading
from spear_core.models.estimate import parameters_of
from spear_core.models.files import MEMORY_MARGIN
from spear_core.models.loading import load_model, weigh_model
from spear_core.models.placement import best_device
from tests.tiny_models import tiny_folder


def in_bfloat16(device: torch.device) -> torch.dtype:
    return torch.bfloat16


@pytest.fixture
def config(tmp_path: Path) -> Any:
    return AutoConfig.from_pretrained(tiny_folder("qwen2", tmp_path / "m"))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_goes_to_the_accelerator_that_holds_all_of_it_with_room_to_work(config: Any, tied: bool) -> None:
    config.tie_word_embeddings = tied
    needed = int(parameters_of(config) * 2 * MEMORY_MARGIN)  # two bytes a weight; tied ones count once
    enough, little = needed + 4096, needed // 2
    assert best_device(config, {0: enough, "cpu": 1 << 40}, in_bfloat16) == torch.device("cuda", 0)
    assert best_device(config, {"mps": enough}, in_bfloat16) == torch.device("mps")
    assert best_device(config, {0: little, 1: enough, "cpu": 1 << 40}, in_bfloat16) == torch.device("cuda", 1)


def test_a_model_that_no_accelerator_holds_whole_stays_on_the_cpu(config: Any) -> None:
    needed = int(parameters_of(config) * 2 * MEMORY_MARGIN)
    assert best_device(config, {0: needed // 2, 1: needed // 2, "cpu": 1 << 40}, in_bfloat16).type == "cpu"
    assert best_device(config, {"cpu": 1 << 40}, in_bfloat16).type == "cpu"
    double = best_device(config, {0: needed + 4096, "cpu": 1 << 40}, lambda device: torch.float32)
    assert double.type == "cpu", "in float32 it is twice as large"


def test_auto_loads_and_weighs_for_the_chosen_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tiny_folder("qwen2", tmp_path / "m"))
    monkeypatch.setattr(loading, "get_max_memory", lambda: {"cpu": 1 << 40})
    assert load_model(folder, device="auto").model.device.type == "cpu"
    asked: list[torch.device] = []

    def free(device: torch.device) -> int:
        asked.append(device)
        return 1 << 40

    monkeypatch.setattr(loading, "free_bytes", free)
    monkeypatch.setattr(loading, "get_max_memory", lambda: {"mps": 1 << 40})
    assert weigh_model(folder, device="auto").free_bytes == 1 << 40
    assert [device.type for device in asked] == ["mps"]


def test_what_is_no_language_model_is_one_sentence(config: Any) -> None:
    config.hidden_act = "no such function"
    with pytest.raises(ModelUnavailable, match="no language model that can be loaded"):
        best_device(config, {0: 1 << 40}, in_bfloat16)
