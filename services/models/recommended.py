"""A short list of models that suit this app, and how long a correction would take with each on this machine.

Sizes are what their pages on the Hub said in November 2026, rounded; the true ones are asked for before a download.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch

from spear_core.own_thread import in_own_thread

BYTES_A_WEIGHT = 2
# A correction with SmolLM2-135M took 4.3 s from confirmation to live (median of 20, benchmarks/real_speed.py, 29 November
# 2026), on two idle cores that multiplied at this rate (see _billions_a_second)
MEASURED_SECONDS, MEASURED_PARAMETERS, MEASURED_RATE = 4.3, 135e6, 350.0


@dataclass(frozen=True)
class Recommended:
    """One model of the list."""

    name: str  # on the Hub
    licence: str
    parameters: float
    download_bytes: float
    words: str


MODELS = (
    Recommended("HuggingFaceTB/SmolLM2-360M-Instruct", "Apache-2.0", 0.36e9, 0.72e9, "English; quick, and a step up."),
    Recommended("Qwen/Qwen2.5-0.5B-Instruct", "Apache-2.0", 0.49e9, 0.99e9, "Many languages; still quick."),
    Recommended("Qwen/Qwen3-0.6B", "Apache-2.0", 0.60e9, 1.50e9, "Many languages; can think before it answers."),
    Recommended("Qwen/Qwen2.5-1.5B-Instruct", "Apache-2.0", 1.54e9, 3.09e9, "Many languages; knows far more."),
    Recommended("HuggingFaceTB/SmolLM2-1.7B-Instruct", "Apache-2.0", 1.71e9, 3.42e9, "English; knows far more."),
    Recommended("Qwen/Qwen3-1.7B", "Apache-2.0", 1.72e9, 4.06e9, "Many languages; can think before it answers."),
    Recommended("HuggingFaceTB/SmolLM3-3B", "Apache-2.0", 3.08e9, 6.15e9, "Six languages; for a fast machine."),
)


def seconds_a_correction(parameters: float, known: tuple[float, float] | None = None) -> float:
    """About how long a correction takes with a model of this size.

    Args:
        parameters: how many weights the model has.
        known: (seconds, parameters) of corrections on this machine; else by how fast it multiplies.
    """
    if known is None:
        known = (MEASURED_SECONDS * MEASURED_RATE / _billions_a_second(), MEASURED_PARAMETERS)
    seconds, of_parameters = known
    return seconds * parameters / of_parameters


@cache
def _billions_a_second() -> float:
    """Multiplications and additions a second of this machine, in billions: products as of a small model's layers."""

    def measured() -> float:
        a, b = torch.ones(256, 1024), torch.ones(1024, 1024)
        took = []
        for _ in range(20):  # the quickest counts: on a busy machine others take their share of the rest
            began = time.perf_counter()
            torch.mm(a, b)
            took.append(time.perf_counter() - began)
        return min(took)

    return 2 * 256 * 1024 * 1024 / max(in_own_thread(measured), 1e-6) / 1e9
