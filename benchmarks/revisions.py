"""Revisions that use the hint: `python -m benchmarks.revisions --model FOLDER --data qaedit_dev.json [--json]`.

`revision_success` (docs/METRICS.md): wrong first answers whose revision contains the target, when the hint states it in
a person's words. Every other hint is written in full sentences; the rest as people type them: "no, oslo", "it's Oslo, not
Bergen", in small letters, with typing mistakes. The questions are drawn by the seed from behind the first `--tuned-on`
of the file, on which the mechanism was tuned. `--fresh` adds 40 questions on personal and work matters from this file's
neighbour, with hints of their own.

Hints that state no answer ("wrong city") and hints that ask for another form ("shorter") are measured apart: whether a
revision differs from the refused answer, and whether it shows the wording of the request. Times are CPU seconds and wall
seconds of one revision; read them on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import string
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.real_figures import contains, percentile
from benchmarks.report import add_common_flags, print_table
from services.chat.revisions import Revision
from spear_core.inference.hint_words import SMALL_WORDS, plain_words
from spear_core.inference.rollout import answer_all
from spear_core.models.loading import LoadedModel, load_model
from spear_core.training.traces import Encoder

BAR = 0.85
ANSWER_TOKENS = 96
FRESH = Path(__file__).with_name("revision_questions.json")
FULL = (
    "The answer is {a}.",
    "The correct answer is {a}.",
    "It is {a}.",
    "That is wrong. The answer is {a}.",
    "{a} is the right answer.",
    "No, the correct answer is {a}.",
)
TYPED = (
    "no, {a}",
    "it's {a}",
    "{a}",
    "it's {a}, not {w}",
    "nope, {a}",
    "wrong, its {a}",
    "actually it's {a}",
    "no it shoud be {a}",
    "teh answer is {a}",
    "not {w} but {a}",
    "i think you mean {a}",
    "{a}!!",
)
SMALL_LETTERS = 0.7  # of the typed hints
OBJECTING = ("wrong", "no", "that's not right", "wrong answer", "that is incorrect")
ASKING = ("shorter", "in one sentence", "use simpler words", "more formal please", "as a list")


@dataclass(frozen=True)
class Case:
    kind: str  # full | typed | fresh | objecting | asking
    question: str
    refused: str
    hint: str
    target: str = ""


@dataclass(frozen=True)
class Done:
    case: Case
    revision: str
    source: str  # of the sentence that was chosen; "request" where the model answered the request itself
    cpu_seconds: float
    wall_seconds: float

    @property
    def is_right(self) -> bool:
        return contains(self.revision, self.case.target)

    @property
    def repeats(self) -> bool:
        return plain_text(self.revision) == plain_text(self.case.refused)


def plain_text(text: str) -> str:
    """Lower case, without punctuation and articles (docs/METRICS.md)."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation and c not in "’‘“”")
    return " ".join(word for word in kept.split() if word not in ("a", "an", "the"))


def wrong_words(question: str, refused: str) -> str:
    """A name or number of the refused answer that the question does not have; empty where there is none."""
    asked = {*plain_words(question), *SMALL_WORDS}
    found = re.findall(r"\b(?:[A-Z]\w+(?: [A-Z]\w+)*|\d[\d,]*)\b", refused)
    return next((words for words in found if not {*plain_words(words)} <= asked), "")


def hint_for(number: int, question: str, refused: str, target: str, rng: random.Random) -> tuple[str, str]:
    """(kind, hint). Every other hint is a full sentence."""
    target = target.strip()
    if number % 2 == 0:
        return "full", rng.choice(FULL).format(a=target)
    wrong = wrong_words(question, refused)
    hint = rng.choice([t for t in TYPED if wrong or "{w}" not in t]).format(a=target, w=wrong)
    return "typed", hint.lower() if rng.random() < SMALL_LETTERS else hint


def draw_cases(loaded: LoadedModel, data: Sequence[dict[str, Any]], count: int, seed: int) -> Iterator[Case]:
    """First answers that are wrong, with hints; then the same questions with hints that state nothing."""
    rng = random.Random(seed)
    usable = [item for item in data if plain_text(item["target"])]  # a target of marks alone cannot be looked for
    chosen = rng.sample(usable, min(count, len(usable)))
    questions = [item["prompt"] for item in chosen]
    answers = first_answers(loaded, questions)
    wrong = [
        (q, a, item["target"])
        for q, a, item in zip(questions, answers, chosen, strict=True)
        if not contains(a, item["target"])
    ]
    for number, (question, refused, target) in enumerate(wrong):
        kind, hint = hint_for(number, question, refused, target, rng)
        yield Case(kind, question, refused, hint, target)
    for question, refused, _ in wrong[: count // 10]:
        yield Case("objecting", question, refused, rng.choice(OBJECTING))
        yield Case("asking", question, refused, rng.choice(ASKING))


def fresh_cases(loaded: LoadedModel) -> Iterator[Case]:
    items = json.loads(FRESH.read_text(encoding="utf-8"))
    answers = first_answers(loaded, [item["question"] for item in items])
    for item, answer in zip(items, answers, strict=True):
        if not contains(answer, item["target"]):
            yield Case("fresh", item["question"], answer, item["hint"], item["target"])


def first_answers(loaded: LoadedModel, questions: Sequence[str]) -> list[str]:
    return answer_all(
        loaded.model,
        loaded.tokenizer,
        [[{"role": "user", "content": q}] for q in questions],
        context_tokens=loaded.context_tokens,
        max_new_tokens=ANSWER_TOKENS,
    )


def revise(loaded: LoadedModel, encoder: Encoder, case: Case) -> Done:
    """As the app revises, but for adapters and streaming."""
    cpu, wall = time.process_time(), time.perf_counter()
    revision = Revision([{"role": "user", "content": case.question}], [(case.refused, case.hint)], loaded.settings)
    found = revision.candidates(loaded.model, encoder)
    if found:
        text, source = found[0].text, found[0].source
    else:
        (said,) = answer_all(
            loaded.model,
            loaded.tokenizer,
            [revision.request],
            context_tokens=loaded.context_tokens,
            max_new_tokens=ANSWER_TOKENS,
        )
        text, source = revision.shown(said, is_over=True), "request"
    return Done(case, text, source, time.process_time() - cpu, time.perf_counter() - wall)


def figures(done: Sequence[Done]) -> dict[str, Any]:
    """What the table shows; the bar is on all hints that state the answer of the drawn questions."""
    out: dict[str, Any] = {}
    stating = [d for d in done if d.case.kind in ("full", "typed")]
    for name, group in [
        ("stating", stating),
        *(
            (kind, [d for d in done if d.case.kind == kind])
            for kind in ("full", "typed", "fresh", "objecting", "asking")
        ),
    ]:
        if not group:
            continue
        words = sorted(len(d.revision.split()) for d in group)
        out[name] = {
            "cases": len(group),
            "repeats": sum(d.repeats for d in group),
            "words_p50": words[len(words) // 2],
            "cpu_seconds_p50": _quantile([d.cpu_seconds for d in group], 0.5),
            "wall_seconds_p50": _quantile([d.wall_seconds for d in group], 0.5),
            "wall_seconds_p95": _quantile([d.wall_seconds for d in group], 0.95),
            "sources": dict(Counter(d.source for d in group).most_common()),
        }
        if name not in ("objecting", "asking"):
            out[name]["revision_success"] = sum(d.is_right for d in group) / len(group)
    out["bar_met"] = bool(stating) and out["stating"]["revision_success"] >= BAR
    return out


def _quantile(values: Sequence[float], share: float) -> float:
    return round(percentile(values, share), 3)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.revisions", description=__doc__.splitlines()[0])
    add_common_flags(parser)
    parser.add_argument(
        "--data", type=Path, required=True, help="questions with `prompt` and `target` (qaedit_dev.json)"
    )
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--tuned-on", type=int, default=100, help="questions at the head of the file that are left out")
    parser.add_argument("--fresh", action="store_true", help="also the 40 personal and work questions")
    parser.add_argument("--show", action="store_true", help="every revision on the error output")
    flags = parser.parse_args(arguments)
    if flags.threads:
        torch.set_num_threads(flags.threads)
    loaded = load_model(flags.model)
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    data = json.loads(flags.data.read_text(encoding="utf-8"))[flags.tuned_on :]
    cases = [*draw_cases(loaded, data, flags.questions, flags.seed), *(fresh_cases(loaded) if flags.fresh else ())]
    done = []
    for case in cases:
        done.append(revise(loaded, encoder, case))
        if flags.show:
            mark = " " if not case.target else "+" if done[-1].is_right else "-"
            print(f"{mark} {case.question} | {case.hint} -> {done[-1].revision} ({done[-1].source})", file=sys.stderr)
    found = figures(done)
    if flags.json:
        print(json.dumps({"model": flags.model, "seed": flags.seed, "threads": torch.get_num_threads(), **found}))
        return
    print_table(
        ("hints", "cases", "revision_success", "repeats", "words p50", "CPU s p50", "wall s p50", "p95"),
        [
            (
                name,
                group["cases"],
                f"{group['revision_success']:.3f}" if "revision_success" in group else "",
                group["repeats"],
                group["words_p50"],
                group["cpu_seconds_p50"],
                group["wall_seconds_p50"],
                group["wall_seconds_p95"],
            )
            for name, group in found.items()
            if name != "bar_met"
        ],
    )


if __name__ == "__main__":
    main()
