"""The pocket model, as tests of the whole application use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spear_core.config import SpearConfig

POCKET_MODEL = Path(__file__).resolve().parents[1] / "assets" / "pocket-model"
# What the base model says of an anchor is computed at its first use, which is up to half of a first round: a few of them
# hold as well for the two or three rounds of a test
FEW_ANCHORS: dict[str, Any] = {"anchor_pool": 64, "anchors_a_step": 4}
USUAL_ANCHORS: dict[str, Any] = {name: getattr(SpearConfig(), name) for name in FEW_ANCHORS}
