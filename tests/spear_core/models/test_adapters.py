"""An adapter folder says what served: also after other adapters took its place in the same module tree."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from spear_core.config import SpearConfig
from spear_core.models.adapters import CONFIG, load_adapter, save_adapter
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.shared_base import AdapterState, SharedBaseModels, lora_config
from tests.tiny_models import tiny_folder

ROOT = Path(__file__).resolve().parents[3]
PROMPT = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(str(tiny_folder("qwen2", tmp_path_factory.mktemp("models") / "tiny")), dtype="float32")


def trained(shared_models: SharedBaseModels, seed: int) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {n: t + 0.1 * torch.randn(t.shape, generator=generator) for n, t in shared_models.initial.items()}


@pytest.mark.parametrize("alpha", [4, 16, 40])
def test_what_is_saved_after_adapters_took_turns_is_what_served(
    loaded: LoadedModel, alpha: int, tmp_path: Path
) -> None:
    """PEFT 0.21.2's own hot swap leaves the earlier adapter's alpha in the configuration, and saving writes that."""
    config = SpearConfig(lora_rank=4, lora_alpha=alpha)
    other = SharedBaseModels(loaded.model, SpearConfig(lora_rank=4, lora_alpha=alpha + 3))
    other.publish(trained(other, 9), 1)
    shared_models = SharedBaseModels(loaded.model, config)
    states = [trained(shared_models, seed) for seed in (1, 2, 3)]
    for version, state in enumerate(states, 1):
        shared_models.publish(state, version)  # each takes the place of the one before
    with torch.no_grad():
        served = shared_models.serving.model(input_ids=PROMPT).logits
    folder = tmp_path / "v3"
    digest = save_adapter(folder, states[-1], lora_config(config, shared_models.base), loaded.name, {})
    assert json.loads((folder / CONFIG).read_text())["lora_alpha"] == alpha
    assert all(torch.equal(t, states[-1][n]) for n, t in load_adapter(folder, digest).items())
    base = AutoModelForCausalLM.from_pretrained(loaded.name, dtype=torch.float32)
    with torch.no_grad():
        elsewhere = PeftModel.from_pretrained(base, str(folder))(input_ids=PROMPT).logits
    assert torch.allclose(elsewhere, served, atol=1e-5)


def test_no_package_uses_pefts_hot_swap() -> None:
    files = [f for name in ("spear_core", "services", "federation", "experiments") for f in (ROOT / name).rglob("*.py")]
    assert len(files) > 50
    for file in files:
        names = {
            n.name for x in ast.walk(ast.parse(file.read_text())) if isinstance(x, ast.ImportFrom) for n in x.names
        }
        assert not {n for n in names if "hotswap" in n}, file
