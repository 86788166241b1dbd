"""Draw the curves of live-learning studies: `python -m benchmarks.plots STUDY_FOLDER ... --to docs/images`.

Each folder is one written by `python -m benchmarks.live_learning --out FOLDER`. Writes SVG: first-try accuracy of the
learning and of the frozen model, what is retained, and, where there are studies with flipped verdicts, what noise costs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

WINDOW = 30  # interactions
LEARNING, FROZEN = "#0f766e", "#94a3b8"


def rolling(values: Sequence[bool]) -> list[float]:
    """Mean over the last WINDOW values; the first ones over as many as there are."""
    return [sum(values[max(0, i - WINDOW + 1) : i + 1]) / min(i + 1, WINDOW) for i in range(len(values))]


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    return [sum(c[i] for c in curves) / len(curves) for i in range(min(len(c) for c in curves))]


def draw_accuracy(studies: Sequence[dict[str, Any]], file: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    for name, key, colour in (("learning", None, LEARNING), ("frozen", "frozen_right", FROZEN)):
        curves = [rolling(s["tally"]["first_right"] if key is None else s[key]) for s in studies]
        for curve in curves:
            axes.plot(curve, color=colour, alpha=0.25, linewidth=1)
        axes.plot(mean_curve(curves), color=colour, linewidth=2.2, label=name)
    axes.set(xlabel="interaction", ylabel="right at the first try", ylim=(0, 1))
    _finish(figure, axes, file)


def draw_retention(studies: Sequence[dict[str, Any]], file: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    for study in studies:
        points = study["tally"]["retention"]
        before = study["retention"] + study["retention_drop"] / 100
        axes.plot(
            [0, *(p[0] for p in points)],
            [before, *(p[1] for p in points)],
            color=LEARNING,
            alpha=0.7,
            label=f"seed {study['seed']}",
        )
    axes.set(xlabel="interaction", ylabel="retention questions right", ylim=(0, 1.02))
    _finish(figure, axes, file)


def draw_noise(studies: Sequence[dict[str, Any]], file: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    levels = sorted({s["noise"] for s in studies})
    gains = [[s["overall_gain"] for s in studies if s["noise"] == level] for level in levels]
    for level, points in zip(levels, gains, strict=True):
        axes.plot([100 * level] * len(points), points, "o", color=LEARNING, alpha=0.4)
    axes.plot(
        [100 * level for level in levels], [sum(g) / len(g) for g in gains], color=LEARNING, label="learning - frozen"
    )
    axes.axhline(0, color=FROZEN, linewidth=1.2)
    axes.set(xlabel="verdicts flipped, %", ylabel="overall gain, points")
    _finish(figure, axes, file)


def draw_long_run(points: Sequence[dict[str, float]], file: Path) -> None:
    """`points` are those of benchmarks.long_run: shares right by the number of corrections."""
    matplotlib.rcParams["svg.hashsalt"] = "spear"
    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    lines = (
        ("own", LEARNING, "-", "latest word on every fact, own wording"),
        ("paraphrase", LEARNING, "--", "the same, wordings never trained on"),
        ("retention", FROZEN, "-", "retention questions"),
    )
    for key, colour, style, label in lines:
        known = [p for p in points if key in p]
        at = [p["corrections"] for p in known]
        axes.plot(at, [p[key] for p in known], color=colour, linestyle=style, linewidth=1.8, label=label)
    axes.set(xlabel="corrections", ylabel="share right", ylim=(0, 1.02))
    _finish(figure, axes, file)


def _finish(figure: Any, axes: Any, file: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False, loc="best")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    studies = [json.loads((folder / "figures.json").read_text()) for folder in arguments.studies]
    matplotlib.rcParams["svg.hashsalt"] = "spear"  # the same figures give the same file
    clean = [s for s in studies if s["noise"] == 0]
    arguments.to.mkdir(parents=True, exist_ok=True)
    draw_accuracy(clean, arguments.to / "first_try.svg")
    draw_retention(clean, arguments.to / "retention.svg")
    if len(clean) < len(studies):
        draw_noise(studies, arguments.to / "noise.svg")


if __name__ == "__main__":
    main()
