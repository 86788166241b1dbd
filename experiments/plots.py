"""Curves of a study as one SVG of six panels, and the numbers behind them as JSON. Deterministic: same data, same file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.algorithms import ALGORITHMS
from experiments.results import Result

COLOURS = ("#0f766e", "#b45309", "#6d28d9", "#be123c", "#1d4ed8", "#4d7c0f", "#334155")
Curve = Callable[[Result], tuple[list[float], list[float]]]


def _measured(cost: Callable[[Result], Sequence[float]]) -> Curve:
    return lambda r: ([cost(r)[i] for i in r.measured], r.accuracy)


def _by_round(values: Callable[[Result], Sequence[float]], first: int = 0) -> Curve:
    return lambda r: (list(range(first, first + len(values(r)))), list(values(r)))


PANELS: tuple[tuple[str, str, str, Curve], ...] = (
    ("accuracy_by_seconds", "seconds of playing and training", "accuracy", _measured(lambda r: r.seconds)),
    ("accuracy_by_tokens", "tokens generated", "accuracy", _measured(lambda r: r.total("generated_tokens"))),
    ("accuracy_by_round", "round", "accuracy", _measured(lambda r: list(range(len(r.lines))))),
    ("training_seconds", "round", "seconds of training, cumulated", _by_round(lambda r: r.total("train_seconds"))),
    ("revisions", "round", "successful revisions, cumulated", _by_round(lambda r: r.total("revised"))),
    ("needing_revision", "round", "share needing revision", _by_round(lambda r: r.needing_revision, 1)),
)


def mean_curve(curves: Sequence[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    """Point by point over the seeds, both coordinates."""
    across, up = ([sum(p) / len(p) for p in zip(*(c[axis] for c in curves), strict=True)] for axis in (0, 1))
    return across, up


def draw(groups: Mapping[str, Sequence[Result]], file: Path) -> None:
    """A thin line for each seed and a thick one for their mean, by group; data beside it under the same name."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "spear"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6))
    data: dict[str, Any] = {}
    for (name, across, up, curve), panel in zip(PANELS, axes.flat, strict=True):
        for group, results in groups.items():
            colour = COLOURS[list(ALGORITHMS).index(group)]  # the same in every plot
            curves = [curve(r) for r in results]
            data.setdefault(name, {})[group] = {r.seed: c for r, c in zip(results, curves, strict=True)}
            for x, y in curves:
                panel.plot(x, y, color=colour, alpha=0.2, linewidth=0.8)
            panel.plot(*mean_curve(curves), color=colour, linewidth=2, label=group)
        panel.set(xlabel=across, ylabel=up)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.25)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="lower center", ncols=len(groups), frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    file.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
