"""Accuracy on the test examples: the likeliest choice, or the greedy answer's verdict. Nothing is sampled."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.client_runtime import ClientRuntime
from experiments.tasks.base import Example
from spear_core.inference.rollout import answer_all
from spear_core.models.prompts import encode_completion
from spear_core.training.scoring import score_rows
from spear_core.training.traces import Encoded


def right(runtime: ClientRuntime, examples: Sequence[Example]) -> list[bool]:
    """Whether the loaded model gets each example right, by the task's own way of measuring."""
    if runtime.task.evaluation == "likelihood":
        return _likeliest(runtime, examples)
    answers = answer_all(
        runtime.model,
        runtime.loaded.tokenizer,
        [e.prompt for e in examples],
        context_tokens=runtime.loaded.context_tokens,
        max_new_tokens=runtime.config.max_new_tokens,
        batch_size=runtime.play.batch_size,
    )
    return [runtime.task.right(e, a) for e, a in zip(examples, answers, strict=True)]


def _likeliest(runtime: ClientRuntime, examples: Sequence[Example]) -> list[bool]:
    """Sum of the log-probabilities of each choice's tokens, without the end token (lm-evaluation-harness, `acc`)."""
    rows: list[Encoded] = []
    for e in examples:
        prompt = runtime.encode(e.prompt)
        for choice in e.choices:
            ids = encode_completion(runtime.loaded.tokenizer, choice)
            ids = ids[:-1] if ids[-1] in runtime.end_ids else ids
            rows.append(Encoded(prompt, tuple(ids), (True,) * len(ids)))
    sums = iter(score_rows(runtime.model, rows, runtime.pad_id, runtime.config.micro_batch))
    found = []
    for e in examples:
        logps = [next(sums).masked_logp for _ in e.choices]
        found.append(max(range(len(logps)), key=logps.__getitem__) == e.gold)
    return found
