"""The algorithms by name."""

from __future__ import annotations

from typing import Any

from experiments.algorithms.base import Algorithm
from experiments.algorithms.dpo import Dpo
from experiments.algorithms.feedback_sft import FeedbackSft
from experiments.algorithms.grpo import Grpo
from experiments.algorithms.kto import Kto
from experiments.algorithms.opsd import Opsd
from experiments.algorithms.rltf_sd import RltfSd
from experiments.algorithms.spear import Spear

ALGORITHMS: dict[str, type[Algorithm[Any]]] = {a.name: a for a in (Spear, FeedbackSft, Grpo, Dpo, Kto, Opsd, RltfSd)}
__all__ = ["ALGORITHMS", "Algorithm"]
