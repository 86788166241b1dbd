"""In-process and Flower runs of one seed give the same adapter, bit by bit."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from safetensors.torch import load_file

from federation.factors import digest_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None or importlib.util.find_spec("ray") is None,
    reason="Flower is not installed here; run this with the python of an environment of requirements-flower.txt",
)


def test_in_process_and_flower_runs_of_one_seed_give_the_same_adapter(tmp_path: Path) -> None:
    import torch

    from experiments.fleet import play_on_flower
    from experiments.runner import play_run
    from tests.experiments.test_runs import small

    torch.set_num_threads(1)
    run = small(tmp_path)
    play_run(run, tmp_path / "here", quiet=True)
    play_on_flower(run, tmp_path / "flower", nodes=3)
    adapters = [
        load_file(tmp_path / side / run.folder / "adapter" / "adapter_model.safetensors") for side in ("here", "flower")
    ]
    assert digest_of(adapters[0]) == digest_of(adapters[1])
