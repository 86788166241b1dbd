"""Tables and plots from a folder of results: `report.md`, a plot a study, and all figures as JSON.

Every table says how many seeds are in it. Comparisons are paired on the seeds that both sides have. With fewer than ten
seeds the interval of the paired difference stands alone; with ten or more there is a p-value (Wilcoxon, Holm) as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.plots import draw
from experiments.results import Result, read_results
from experiments.statistics import FEWEST_SEEDS_FOR_A_TEST, Interval, holm, interval, wilcoxon
from spear_core.errors import ConfigError

REFERENCE = "spear"  # what the other algorithms of a study are compared with
TARGET_SHARE = 0.75  # of the reference's mean gain: the accuracy that time and tokens are counted to
Groups = dict[str, list[Result]]


def write_report(folder: Path, to: Path) -> None:
    """Raises ConfigError where the folder holds no complete run, or runs of one name that are not the same."""
    results, incomplete = read_results(folder)
    results = _distinct(results)
    if not results:
        raise ConfigError(
            f"{folder} holds no complete run; play some with python -m experiments run FILE --out {folder}"
        )
    to.mkdir(parents=True, exist_ok=True)
    texts, figures = [], {}
    main: dict[str, Groups] = {}
    for r in results:
        if r.run["variant"] == "main":
            main.setdefault(r.run["task"], {}).setdefault(r.run["algorithm"], []).append(r)
    for task, groups in sorted(main.items()):
        ordered = {name: groups[name] for name in sorted(groups, key=lambda n: (n != REFERENCE, n))}
        draw(ordered, to / f"{task}.svg")
        figures[task] = study_figures(ordered)
        texts.append(f"## {task}\n\n{_table(figures[task])}\n\n![{task}]({task}.svg)\n")
    changed = [r for r in results if r.run["variant"] != "main"]
    if changed:
        figures["ablations"] = ablation_figures(changed, main)
        texts.append(f"## One thing changed at a time\n\n{_table(figures['ablations'])}\n")
    if incomplete:
        texts.append("Incomplete, and not in the tables: " + ", ".join(incomplete) + "\n")
    (to / "report.md").write_text("\n".join(texts), encoding="utf-8")
    (to / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _distinct(results: Sequence[Result]) -> list[Result]:
    """Every run once, also where it was played in one process and on a fleet. Raises ConfigError as `write_report`."""
    found: dict[tuple[Any, ...], Result] = {}
    for r in results:
        first = found.setdefault((r.run["task"], r.run["variant"], r.run["algorithm"], r.seed), r)
        if first.run != r.run:
            raise ConfigError(
                f"{'/'.join(first.name)} and {'/'.join(r.name)} both play {r.run['task']} with seed {r.seed}, with other "
                "settings; report on them one by one, or name a variant in one of the run files"
            )
    return list(found.values())


def study_figures(groups: Mapping[str, Sequence[Result]]) -> list[dict[str, Any]]:
    """A row for each algorithm."""
    named = REFERENCE if REFERENCE in groups else next(iter(groups))
    reference = groups[named]
    start, end = mean(r.accuracy[0] for r in reference), mean(r.accuracy[-1] for r in reference)
    target = start + TARGET_SHARE * (end - start)
    rows = []
    for name, results in groups.items():
        rows.append(
            {
                "algorithm": name,
                "seeds": len(results),
                "accuracy before": f"{mean(r.accuracy[0] for r in results):.3f}",
                "accuracy": str(final_interval(results)),
                **_balanced(results),
                f"{named} minus this": _difference(reference, results) if results is not reference else "",
                f"seconds to {target:.3f}": _reached(results, target, [r.seconds for r in results]),
                f"tokens to {target:.3f}": _reached(results, target, [r.total("generated_tokens") for r in results]),
                "training seconds": f"{mean(r.total('train_seconds')[-1] for r in results):.0f}",
                "playing seconds": f"{mean(r.total('play_seconds')[-1] for r in results):.0f}",
                "tokens": f"{mean(r.total('generated_tokens')[-1] for r in results):.0f}",
                "revised": f"{mean(r.total('revised')[-1] for r in results):.0f}",
                "needing revision, first quarter": _quarter(results, 0),
                "last quarter": _quarter(results, 3),
            }
        )
    _add_p_values(rows, groups, reference)
    return rows


def ablation_figures(changed: Sequence[Result], main: Mapping[str, Groups]) -> list[dict[str, Any]]:
    """A row for each variant, against the unchanged run of the same task, algorithm and seeds."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for r in changed:
        groups.setdefault((r.run["task"], r.run["variant"], r.run["algorithm"]), []).append(r)
    rows = []
    for (task, variant, algorithm), results in sorted(groups.items()):
        unchanged = main.get(task, {}).get(algorithm, [])
        rows.append(
            {
                "task": task,
                "variant": variant,
                "seeds": len(results),
                "accuracy": str(final_interval(results)),
                **_balanced(results),
                "this minus unchanged": _difference(results, unchanged),
                "revised": f"{mean(r.total('revised')[-1] for r in results):.0f}",
                "needing revision, last quarter": _quarter(results, 3),
            }
        )
    return rows


def final_interval(results: Sequence[Result]) -> Interval:
    return interval([r.right for r in results], results[0].test_keys)


def _balanced(results: Sequence[Result]) -> dict[str, str]:
    """Of each seed; in an interval of all, seeds that always give the same answer look like ones that differ in what they know."""
    found = [b for r in results if (b := r.balanced_accuracy) is not None]
    return {"balanced accuracy, each seed": ", ".join(f"{b:.3f}" for b in found)} if found else {}


def _difference(left: Sequence[Result], right: Sequence[Result]) -> str:
    """Interval of the paired difference in final accuracy, on the seeds and questions that both have."""
    pairs = _pairs(left, right)
    if not pairs:
        return "no seed in common"
    differences = [[a - b for a, b in zip(x.right, y.right, strict=True)] for x, y in pairs]
    found = interval(differences, pairs[0][0].test_keys)
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _pairs(left: Sequence[Result], right: Sequence[Result]) -> list[tuple[Result, Result]]:
    of_seed = {r.seed: r for r in right}
    return [(r, of_seed[r.seed]) for r in left if r.seed in of_seed and of_seed[r.seed].test_keys == r.test_keys]


def _add_p_values(
    rows: list[dict[str, Any]], groups: Mapping[str, Sequence[Result]], reference: Sequence[Result]
) -> None:
    tested: list[tuple[int, float]] = []
    for i, results in enumerate(groups.values()):
        pairs = _pairs(reference, results)
        if results is not reference and len(pairs) >= FEWEST_SEEDS_FOR_A_TEST:
            tested.append((i, wilcoxon([x.accuracy[-1] - y.accuracy[-1] for x, y in pairs])))
    for (i, _), p in zip(tested, holm([p for _, p in tested]), strict=True):
        rows[i]["p (Holm)"] = f"{p:.3f}"


def _reached(results: Sequence[Result], accuracy: float, costs: Sequence[Sequence[float]]) -> str:
    """Mean cost of the seeds that got there, and how many did."""
    found = [r.reached(accuracy, cost) for r, cost in zip(results, costs, strict=True)]
    there = [f for f in found if f is not None]
    count = "" if len(there) == len(found) else f" ({len(there)} of {len(found)} seeds)"
    return f"{mean(there):.0f}{count}" if there else "not reached"


def _quarter(results: Sequence[Result], quarter: int) -> str:
    """Share of prompts needing revision in the first (0) or last (3) quarter of the rounds."""
    shares = []
    for r in results:
        size = max(1, len(r.needing_revision) // 4)
        shares += r.needing_revision[:size] if quarter == 0 else r.needing_revision[-size:]
    known = [share for share in shares if not isnan(share)]
    return f"{100 * mean(known):.0f} %" if known else "-"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = list(dict.fromkeys(key for row in rows for key in row))
    lines = [header, ["---"] * len(header), *([str(row.get(key, "")) for key in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
