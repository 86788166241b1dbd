"""The judge against the oracle: `python -m benchmarks.judge [--json]`. Calibrates tau, min_p and tau_full on the pocket tasks.

First failures on half-known facts and on sums are revised by the model after five kinds of hint:

- `partial`: one hint of the simulated user, which leaves three candidates or more (docs/METRICS.md);
- `second`: another such hint where the first revision failed, and a second revision, sampled as the app samples it;
- `outright`: the person says the answer ("no, bird"); of a yes/no question nobody says that, they say a fact;
- `wrong`: the person says a wrong answer. They are taken at their word, so only the accepted share is told;
- `mixed`: half `partial`, half `outright`. On these the thresholds are chosen. Outright hints are easy, so the precision
  here hides the one on partial hints: read the two together.

Questions are halved: thresholds come from one half, figures from the other. Abstentions count as misses in the recall.
`ideal recall` is the share of right revisions where hints, refused replies and options leave one answer: what a perfect
reader could be sure of, and so the most that a judge can reach at a precision near 1.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.report import add_common_flags, print_table
from pocket.evaluation import ask, distinct_tasks
from pocket.hints import consistent
from pocket.simulated_user import Correction, SimulatedUser
from pocket.tasks import SHAPES, Task
from services.chat.chat import REVISION_TEMPERATURE
from spear_core.inference.rollout import answer_all
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.prompts import revision_messages
from spear_core.training.judge import (
    MIN_ACCEPTED,
    Case,
    Score,
    Scored,
    Thresholds,
    calibrate,
    fit_thresholds,
    is_clean,
    scores,
)
from spear_core.training.traces import Encoder

POPULATIONS = ("mixed", "partial", "second", "outright", "wrong")
OUTRIGHT = ("no, {a}", "{a}", "it is {a}", "it should be {a}")
TASKS_A_CASE = 3  # asked for each first failure wanted; a shape that fails less gives fewer cases
BARS = {"precision": 0.98, "recall": 0.7}
Rule = Callable[[Score], bool]


@dataclass(frozen=True)
class Tried:
    """One revision with what the oracle says of it. `sure`: a perfect reader of the hints knows the answer."""

    shape: str
    question: str
    truth: str
    case: Case
    right: bool
    sure: bool


@dataclass(frozen=True)
class Judged:
    """The same after the model has scored it."""

    shape: str
    question: str
    sure: bool
    scored: Scored


class JudgeCases:
    """Asks the model and lets the simulated user hint; no judging."""

    def __init__(self, loaded: LoadedModel, cases_a_shape: int, seed: int) -> None:
        self.loaded = loaded
        self.seed = seed
        self.rng = random.Random(seed)
        self.failures = {shape: self._failures(shape, cases_a_shape) for shape in SHAPES}

    def answers(self, conversations: Sequence[Any], temperature: float = 0.0) -> list[str]:
        return answer_all(
            self.loaded.model,
            self.loaded.tokenizer,
            conversations,
            context_tokens=self.loaded.context_tokens,
            max_new_tokens=64,
            batch_size=64,
            temperature=temperature,
        )

    def populations(self) -> dict[str, list[Tried]]:
        """All but `mixed`."""
        out: dict[str, list[Tried]] = {name: [] for name in POPULATIONS if name != "mixed"}
        user = SimulatedUser(self.seed)
        for shape, failures in self.failures.items():
            corrections = [user.correct(task) for task, _ in failures]
            partial = self._revised(
                [(t, c, [(reply, c.hint(reply))]) for (t, reply), c in zip(failures, corrections, strict=True)]
            )
            again = []
            for tried, (task, _), correction in zip(partial, failures, corrections, strict=True):
                if not tried.right:
                    failed = tried.case.revision
                    again.append((task, correction, [*tried.case.attempts, (failed, correction.hint(failed))]))
            torch.manual_seed(self.seed)
            second = self._revised(again, REVISION_TEMPERATURE)
            outright, wrong = [], []
            if shape != "yesno":
                told = [(t, None, [(r, self._told(t.truth))]) for t, r in failures]
                outright = self._revised(told)
                wrong = self._revised([(t, None, [(r, self._told(self._other(t, r)))]) for t, r in failures])
            for name, found in (("partial", partial), ("second", second), ("outright", outright), ("wrong", wrong)):
                out[name] += found
        return out

    def _failures(self, shape: str, count: int) -> list[tuple[Task, str]]:
        """The model's own wrong first replies, `count` of them where it has so many."""
        tasks = distinct_tasks(shape, count * TASKS_A_CASE, self.seed, half_known=True, held_out=False)
        replies = self.answers([ask(t.question) for t in tasks])
        return [(t, r) for t, r in zip(tasks, replies, strict=True) if not t.verdict(r)][:count]

    def _revised(
        self, asked: Sequence[tuple[Task, Correction | None, list[tuple[str, str]]]], temperature: float = 0.0
    ) -> list[Tried]:
        settings = self.loaded.settings
        prompts = [revision_messages(ask(task.question), attempts, settings) for task, _, attempts in asked]
        return [
            Tried(
                task.shape,
                task.question,
                task.truth,
                Case(ask(task.question), *attempts[0], said, tuple(attempts[1:])),
                task.verdict(said),
                correction is None or leaves_one(task, correction),
            )
            for (task, correction, attempts), said in zip(asked, self.answers(prompts, temperature), strict=True)
        ]

    def _told(self, answer: str) -> str:
        return self.rng.choice(OUTRIGHT).format(a=answer)

    def _other(self, task: Task, reply: str) -> str:
        """A wrong answer that the reply did not give."""
        if task.shape == "sum":
            said = re.findall(r"\d+", reply)[-1:]
            near = [str(int(task.truth) + by) for by in (-10, -2, -1, 1, 2, 10)]
            return self.rng.choice([n for n in near if n not in said])
        open_ = [c for c in task.options or task.candidates if c != task.truth and c.lower() not in reply.lower()]
        return self.rng.choice(open_)


def leaves_one(task: Task, correction: Correction) -> bool:
    """Do the hints so far, the refused replies and the options leave one answer?

    A sum has but one for whoever can add, and a yes/no question has but one once the other is refused.
    """
    if task.shape in ("sum", "yesno"):
        return True
    return len(consistent(task.options or task.candidates, correction.given, correction.ruled_out)) == 1


def judged(loaded: LoadedModel, tried: Sequence[Tried]) -> list[Judged]:
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    found = scores(loaded.model, encoder, loaded.settings, [t.case for t in tried], loaded.tokenizer.pad_token_id)
    return [
        Judged(t.shape, t.question, t.sure, Scored(score, is_clean(t.case, loaded.settings), t.right))
        for t, score in zip(tried, found, strict=True)
    ]


def mixed(partial: Sequence[Judged], outright: Sequence[Judged], rng: random.Random) -> list[Judged]:
    half = min(len(partial), len(outright))
    return rng.sample(list(partial), half) + rng.sample(list(outright), half)


def halves(cases: Sequence[Judged], calibration: set[str]) -> tuple[list[Judged], list[Judged]]:
    """(for calibration, for the figures), by question."""
    own = [c for c in cases if c.question in calibration]
    return own, [c for c in cases if c.question not in calibration]


def both(thresholds: Thresholds | None) -> Rule:
    if thresholds is None:
        return lambda score: False
    return lambda score: score.gain >= thresholds.tau and score.certainty >= thresholds.min_p


def alone(figure: Callable[[Score], float], cases: Sequence[Judged], precision: float) -> Rule:
    """The best rule that looks at one figure only, by the same demands as `fit_thresholds` makes."""
    pairs = [(figure(c.scored.score), c.scored.right) for c in cases if c.scored.clean]
    found = calibrate(pairs, precision)
    if found is None or sum(value >= found[0] for value, _ in pairs) < MIN_ACCEPTED:
        return lambda score: False
    return lambda score: figure(score) >= found[0]


def outcome(cases: Sequence[Judged], rule: Rule) -> dict[str, Any]:
    """Precision is None where nothing was accepted, a recall where nothing was right."""
    accepted = [c.scored.right for c in cases if c.scored.clean and rule(c.scored.score)]
    right = [c for c in cases if c.scored.right]
    return {
        "cases": len(cases),
        "right": len(right),
        "accepted": len(accepted),
        "precision": _share(sum(accepted), len(accepted)),
        "recall": _share(sum(accepted), len(right)),
        "ideal_recall": _share(sum(c.sure for c in right), len(right)),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def run(loaded: LoadedModel, cases_a_shape: int, seed: int, precision: float) -> dict[str, Any]:
    """All figures, from populations of at most `cases_a_shape` cases a shape."""
    populations = {
        name: judged(loaded, tried) for name, tried in JudgeCases(loaded, cases_a_shape, seed).populations().items()
    }
    rng = random.Random(seed)
    populations["mixed"] = mixed(populations["partial"], populations["outright"], rng)
    questions = sorted({c.question for cases in populations.values() for c in cases})
    calibration = set(rng.sample(questions, len(questions) // 2))
    fitted = fit_thresholds([c.scored for c in halves(populations["mixed"], calibration)[0]], precision)
    figures: dict[str, Any] = {
        "thresholds": asdict(fitted) if fitted else None,
        "precision_asked": precision,
        "bars": BARS,
        "populations": {},
    }
    for name in POPULATIONS:
        own, test = halves(populations[name], calibration)
        parts = {"overall": test} | {shape: [c for c in test if c.shape == shape] for shape in SHAPES}
        found: dict[str, Any] = {part: outcome(cases, both(fitted)) for part, cases in parts.items() if cases}
        if name == "wrong":  # what the oracle says of a revision that does as it was told means nothing here
            keep = ("cases", "accepted")
            found = {part: {k: v for k, v in row.items() if k in keep} for part, row in found.items()}
        else:
            found["own_thresholds"] = {
                "gain": outcome(test, alone(lambda score: score.gain, own, precision)),
                "certainty": outcome(test, alone(lambda score: score.certainty, own, precision)),
                "both": outcome(test, both(fit_thresholds([c.scored for c in own], precision))),
            }
        for row in (found[part] for part in parts if part in found):
            row["accepted_share"] = row["accepted"] / row["cases"]
        figures["populations"][name] = found
    figures["meets_bars"] = {
        name: all((figures["populations"][name]["overall"][k] or 0.0) >= bar for k, bar in BARS.items())
        for name in POPULATIONS
        if name != "wrong"
    }
    return figures


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def print_figures(figures: dict[str, Any]) -> None:
    fitted = figures["thresholds"]
    print(", ".join(f"{k} {v:.3f}" for k, v in fitted.items()) if fitted else "no threshold reaches the precision")
    columns = ("cases", "right", "accepted", "accepted_share", "precision", "recall", "ideal_recall")
    populations = figures["populations"]
    print_table(
        ["hints", "shape", *(c.replace("_", " ") for c in columns)],
        [
            [name, part, *(_cell(row.get(column)) for column in columns)]
            for name, found in populations.items()
            for part, row in found.items()
            if part != "own_thresholds"
        ],
    )
    print(f"\nThresholds from the population's own calibration half, for a precision of {figures['precision_asked']}:")
    print_table(
        ["hints", "by", "accepted", "precision", "recall"],
        [
            [name, rule, *(_cell(row[column]) for column in ("accepted", "precision", "recall"))]
            for name, found in populations.items()
            for rule, row in found.get("own_thresholds", {}).items()
        ],
    )
    print(f"\nBars: precision {BARS['precision']} at recall {BARS['recall']} overall")
    for name, meets in figures["meets_bars"].items():
        row = populations[name]["overall"]
        print(f"  {name}: {_cell(row['precision'])} at {_cell(row['recall'])}: {'met' if meets else 'missed'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--cases", type=int, default=200, help="first failures a shape (default %(default)s)")
    parser.add_argument("--precision", type=float, default=0.99, help="what calibration asks for, on its own half")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    figures = run(load_model(arguments.model), arguments.cases, arguments.seed, arguments.precision)
    if arguments.json:
        print(json.dumps(figures))
    else:
        print_figures(figures)


if __name__ == "__main__":
    main()
