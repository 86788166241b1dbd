"""The corrections a simulated person teaches a real language model, and the questions that must stay as they are.

Personal and workplace facts come with this project (data/personal_facts.json). QAEdit's questions are read from a path;
their neighbours are made here by a template that training knows nothing of: the question with another record's subject.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent / "data"
NEIGHBOURS = 2  # a correction
_HINTS = ("no, {}", "it's {}", "{}")  # as people type them


@dataclass(frozen=True)
class Correction:
    """One thing to teach.

    Attributes:
        question: what the person asks.
        answer: the reply they would write themselves.
        target: the words by which a reply is right.
        hint: what they say about a wrong reply.
        wordings: the same question in other words; never trained on.
        neighbours: questions of the same pattern about another subject; never trained on.
    """

    question: str
    answer: str
    target: str
    hint: str
    wordings: tuple[str, ...]
    neighbours: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A multiple-choice question of ARC."""

    question: str
    options: tuple[str, ...]
    right: int


def personal_facts(path: Path = DATA / "personal_facts.json", *, seed: int | None = None) -> list[Correction]:
    """The project's own facts, in the order of the file, or shuffled by a seed."""
    facts = [
        Correction(f["question"], f["answer"], f["target"], f["hint"], tuple(f["wordings"]), tuple(f["neighbours"]))
        for f in json.loads(path.read_text(encoding="utf-8"))
    ]
    if seed is not None:
        random.Random(seed).shuffle(facts)
    return facts


def unrelated_questions(path: Path = DATA / "unrelated_questions.txt") -> list[str]:
    """Everyday questions that have nothing to do with any correction."""
    return path.read_text(encoding="utf-8").splitlines()


def qaedit(path: Path, seed: int) -> list[Correction]:
    """QAEdit's records with neighbours by template, shuffled by the seed.

    Raises ValueError where the file is not a list of QAEdit records.
    """
    records = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(records, list) or not all(
        {"prompt", "target", "subject", "rephrase"} <= r.keys() for r in records
    ):
        raise ValueError(f"{path} is not a list of QAEdit records")
    rng = random.Random(seed)
    rng.shuffle(records)
    return [_from_record(record, records, rng) for record in records]


def _from_record(record: dict[str, Any], records: Sequence[dict[str, Any]], rng: random.Random) -> Correction:
    target = record["target"].strip()
    hint = rng.choice(_HINTS).format(target)
    return Correction(
        _question(record["prompt"]),
        target,
        target,
        hint,
        (_question(record["rephrase"]),),
        template_neighbours(record, records, rng),
    )


def template_neighbours(
    record: dict[str, Any], records: Sequence[dict[str, Any]], rng: random.Random
) -> tuple[str, ...]:
    """The record's question about the subjects of other records that look alike: same capitalisation, similar length."""
    subject = record["subject"].strip()
    target = record["target"].strip().lower()
    others = {r["subject"].strip(): r["target"].strip().lower() for r in records}
    pool = [
        other
        for other, of_target in others.items()
        if other.lower() != subject.lower()
        and other.lower() not in record["prompt"].lower()
        and of_target != target
        and other[:1].isupper() == subject[:1].isupper()
        and any(c.isdigit() for c in other) == any(c.isdigit() for c in subject)
    ]
    rng.shuffle(pool)
    pool.sort(key=lambda other: abs(len(other.split()) - len(subject.split())))
    start = record["prompt"].lower().index(subject.lower())
    before, after = record["prompt"][:start], record["prompt"][start + len(subject) :]
    return tuple(_question(f"{before}{other}{after}") for other in pool[:NEIGHBOURS])


def arc_challenge(path: Path, count: int) -> list[Choice]:
    """The first `count` questions of an ARC file in JSON lines. Raises ValueError for another format."""
    out = []
    for line in path.read_text(encoding="utf-8").splitlines()[:count]:
        record = json.loads(line)
        try:
            labels, texts = record["choices"]["label"], record["choices"]["text"]
            out.append(Choice(record["question"], tuple(texts), labels.index(record["answerKey"])))
        except (KeyError, TypeError) as e:
            raise ValueError(f"{path} is not a file of ARC questions") from e
    return out


def _question(text: str) -> str:
    return " ".join(text.strip().strip('"').split())
