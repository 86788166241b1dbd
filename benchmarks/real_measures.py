"""What a real language model says and how probable it finds texts, with and without its adapter. No training, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.real_corrections import Choice, Correction
from benchmarks.real_figures import FIRST_TOKENS, changed, contains, leaks, mean, right_choices
from services.app import AppServices
from services.engine import Engine
from spear_core.inference.rollout import answer_all
from spear_core.models.prompts import encode_text
from spear_core.training.scoring import score_rows
from spear_core.training.traces import Encoded

BATCH_SIZE = 32
MICRO_BATCH = 16


@dataclass(frozen=True)
class Learned:
    """Shares of right replies to corrected questions, and of corrections that leak; each 0 to 1."""

    same: float
    wordings: float
    neighbour_leak: float


class Probe:
    """Asks one model, outside its conversations, greedily and up to its own end.

    The untouched model's replies are asked for once and kept.
    """

    def __init__(self, app: AppServices, unrelated: Sequence[str], choices: Sequence[Choice] = ()) -> None:
        self.app = app
        self.unrelated = list(unrelated)
        self.choices = list(choices)
        self._untouched: dict[tuple[str, int], str] = {}
        self._base_accuracy: float | None = None

    @property
    def _engine(self) -> Engine:
        return self.app.engine

    def replies(self, questions: Sequence[str], *, frozen: bool = False, tokens: int = 0) -> list[str]:
        """Replies to bare questions; `tokens` ends them earlier than the application would."""
        return self.prompted([[{"role": "user", "content": q}] for q in questions], frozen=frozen, tokens=tokens)

    def prompted(self, prompts: Sequence[Any], *, frozen: bool = False, tokens: int = 0) -> list[str]:
        """Replies to whole prompts, as chat messages."""
        engine = self._engine
        return answer_all(
            engine.shared_models.base if frozen else engine.shared_models.serving.model,
            engine.loaded.tokenizer,
            prompts,
            context_tokens=engine.loaded.context_tokens,
            max_new_tokens=tokens or engine.max_new_tokens,
            batch_size=BATCH_SIZE,
        )

    def untouched(self, questions: Sequence[str], *, tokens: int = 0) -> list[str]:
        """The untouched model's replies."""
        missing = [q for q in dict.fromkeys(questions) if (q, tokens) not in self._untouched]
        for q, reply in zip(missing, self.replies(missing, frozen=True, tokens=tokens), strict=True):
            self._untouched[q, tokens] = reply
        return [self._untouched[q, tokens] for q in questions]

    def learned(self, corrections: Sequence[Correction], *, neighbours: bool = True) -> Learned:
        """Every question, wording and neighbour of the corrections, asked of what serves now."""
        return tally(corrections, lambda questions: self.replies(questions), self.untouched, neighbours=neighbours)

    def answers_changed(self) -> float:
        """Share of unrelated replies that differ within the first tokens from the untouched model's."""
        now = self._ids(self.replies(self.unrelated, tokens=FIRST_TOKENS))
        return changed(now, self._ids(self.untouched(self.unrelated, tokens=FIRST_TOKENS)))

    def retention_nll(self) -> float:
        """Rise of the NLL of the untouched model's own replies to the unrelated questions, nats per token."""
        engine = self._engine
        prompts = [[{"role": "user", "content": q}] for q in self.unrelated]
        rows = [
            engine.encoder.plain(p, reply) for p, reply in zip(prompts, self.untouched(self.unrelated), strict=True)
        ]
        sizes = [len(row.completion_ids) for row in rows]
        total = 0.0
        for model, sign in ((engine.shared_models.serving.model, -1), (engine.shared_models.base, 1)):
            scored = score_rows(model, rows, engine.pad_id, MICRO_BATCH)
            total += sign * sum(row.mean_logp * size for row, size in zip(scored, sizes, strict=True))
        return total / sum(sizes)

    def accuracy(self, *, frozen: bool = False) -> float:
        """Share of the multiple-choice questions answered right, by the options' text normalised by its length."""
        if frozen and self._base_accuracy is not None:
            return self._base_accuracy
        engine = self._engine
        model = engine.shared_models.base if frozen else engine.shared_models.serving.model
        rows = [row for choice in self.choices for row in self._option_rows(choice)]
        scored = iter(score_rows(model, rows, engine.pad_id, MICRO_BATCH))
        logps = [[next(scored).masked_logp for _ in choice.options] for choice in self.choices]
        lengths = [[len(option) for option in choice.options] for choice in self.choices]
        share = right_choices(logps, lengths, [choice.right for choice in self.choices])
        if frozen:
            self._base_accuracy = share
        return share

    def task_drop(self) -> float:
        """Points lost on the multiple-choice questions; 0 where there are none."""
        return 100 * (self.accuracy(frozen=True) - self.accuracy()) if self.choices else 0.0

    def _option_rows(self, choice: Choice) -> list[Encoded]:
        """The options as continuations of the bare question, without a chat template, as lm-evaluation-harness asks."""
        tokenizer = self._engine.loaded.tokenizer
        prompt = encode_text(tokenizer, f"Question: {choice.question}\nAnswer:")
        options = [encode_text(tokenizer, f" {option}") for option in choice.options]
        return [Encoded(tuple(prompt), tuple(ids), (True,) * len(ids)) for ids in options]

    def _ids(self, replies: Sequence[str]) -> list[list[int]]:
        return [encode_text(self._engine.loaded.tokenizer, reply) for reply in replies]


def tally(corrections: Sequence[Correction], ask: Any, untouched: Any, *, neighbours: bool = True) -> Learned:
    """Ask everything about the corrections in one go. `ask` and `untouched` take questions and return replies."""
    questions: list[str] = []
    for c in corrections:
        questions += [c.question, *c.wordings, *(c.neighbours if neighbours else ())]
    replies = iter(ask(questions))
    same: list[bool] = []
    wordings: list[bool] = []
    leaking: list[bool] = []
    for c in corrections:
        same.append(contains(next(replies), c.target))
        wordings += [contains(next(replies), c.target) for _ in c.wordings]
        if neighbours:
            said = [next(replies) for _ in c.neighbours]
            leaking.append(leaks(said, untouched(list(c.neighbours)), c.target))
    return Learned(mean(same), mean(wordings), mean(leaking))
