"""Accuracy on the test examples: the likeliest choice, or the greedy answer's verdict. Nothing is sampled."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.seat import Seat
from experiments.tasks.base import Example
from spear_core.prompts import encode_completion
from spear_core.rollout import answer_all
from spear_core.scoring import score_rows
from spear_core.traces import Encoded


def right(seat: Seat, examples: Sequence[Example]) -> list[bool]:
    """Whether the model in the seat gets each example right, by the task's own way of measuring."""
    if seat.task.evaluation == "likelihood":
        return _likeliest(seat, examples)
    answers = answer_all(
        seat.model,
        seat.loaded.tokenizer,
        [e.prompt for e in examples],
        context_tokens=seat.loaded.context_tokens,
        max_new_tokens=seat.config.max_new_tokens,
        batch_size=seat.play.batch_size,
    )
    return [seat.task.right(e, a) for e, a in zip(examples, answers, strict=True)]


def _likeliest(seat: Seat, examples: Sequence[Example]) -> list[bool]:
    """Sum of the log-probabilities of each choice's tokens, without the end token (lm-evaluation-harness, `acc`)."""
    rows: list[Encoded] = []
    for e in examples:
        prompt = seat.encode(e.prompt)
        for choice in e.choices:
            ids = encode_completion(seat.loaded.tokenizer, choice)
            ids = ids[:-1] if ids[-1] in seat.end_ids else ids
            rows.append(Encoded(prompt, tuple(ids), (True,) * len(ids)))
    sums = iter(score_rows(seat.model, rows, seat.pad_id, seat.config.micro_batch))
    found = []
    for e in examples:
        logps = [next(sums).masked_logp for _ in e.choices]
        found.append(max(range(len(logps)), key=logps.__getitem__) == e.gold)
    return found
