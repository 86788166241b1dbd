"""What a real language model says and how probable it finds texts, with and without its adapter. No training, no files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.real_corrections import Choice, Correction
from benchmarks.real_figures import FIRST_TOKENS, changed, contains, leaks, mean, right_choices
from services.app import AppServices
from services.engine import Engine
from spear_core.inference.rollout import answer_all
from spear_core.models.prompts import encode_text
from spear_core.training.scoring import score_rows
from spear_core.training.traces import Encoded, Messages

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
        self._untouched: dict[tuple[str, Any], str] = {}
        self._base_logps: list[list[float]] | None = None

    @property
    def _engine(self) -> Engine:
        return self.app.engine

    def replies(self, questions: Sequence[str], *, said: Messages = (), **how: Any) -> list[str]:
        """Replies to questions, each asked after what was `said`; the other arguments are those of `prompted`."""
        return self.prompted([[*said, {"role": "user", "content": q}] for q in questions], **how)

    def prompted(
        self, prompts: Sequence[Any], *, frozen: bool = False, tokens: int = 0, batch_size: int = BATCH_SIZE
    ) -> list[str]:
        """Replies to whole prompts, as chat messages; `tokens` ends them earlier than the application would.

        What the application hands to the untouched model is not asked again: greedy replies of unchanged weights are the
        same. It reads of a conversation what it does in the application; copies are not written again.
        """
        engine = self._engine
        if frozen:
            return self._answers(engine.shared_models.base, prompts, tokens, batch_size)
        # as the application does: each prompt is answered by the adapter, or by the base model where it is out of scope
        chosen = [engine.scope.choose(engine, prompt) for prompt in prompts]
        models = [c.serving.model for c in chosen]
        read = [c.read(engine.loaded.settings) for c in chosen]
        replies = [""] * len(prompts)
        for model in {id(m): m for m in models}.values():
            places = [i for i, m in enumerate(models) if m is model]
            asked = [read[i] for i in places]
            if model is engine.shared_models.base and all(len(prompt) == 1 for prompt in asked):
                said = self.untouched([p[0]["content"] for p in asked], tokens=tokens, batch_size=batch_size)
            else:
                said = self._answers(model, asked, tokens, batch_size)
            for place, reply in zip(places, said, strict=True):
                replies[place] = reply
        return replies

    def _answers(self, model: Any, prompts: Sequence[Any], tokens: int, batch_size: int) -> list[str]:
        engine = self._engine
        return answer_all(
            model,
            engine.loaded.tokenizer,
            prompts,
            context_tokens=engine.loaded.context_tokens,
            max_new_tokens=tokens or engine.max_new_tokens,
            batch_size=batch_size,
        )

    def untouched(self, questions: Sequence[str], **how: Any) -> list[str]:
        """The untouched model's replies."""
        how = {"tokens": 0, "batch_size": BATCH_SIZE, **how}
        key = tuple(sorted(how.items()))
        missing = [q for q in dict.fromkeys(questions) if (q, key) not in self._untouched]
        for q, reply in zip(missing, self.replies(missing, frozen=True, **how), strict=True):
            self._untouched[q, key] = reply
        return [self._untouched[q, key] for q in questions]

    def learned(self, corrections: Sequence[Correction], *, neighbours: bool = True, said: Messages = ()) -> Learned:
        """Every question, wording and neighbour of the corrections, asked of what serves now after what was `said`."""
        return tally(
            corrections, lambda questions: self.replies(questions, said=said), self.untouched, neighbours=neighbours
        )

    def answers_changed(self, ask: Callable[..., list[str]] | None = None) -> float:
        """Share of unrelated replies that differ within the first tokens from the untouched model's.

        `ask` gives the replies, and takes the arguments of `replies`; without it they are what serves now.
        They are asked for one at a time: what a row is computed with moves the last bits of bfloat16, and a tenth of the
        replies with them.
        """
        how: dict[str, Any] = {"tokens": FIRST_TOKENS, "batch_size": 1}
        now = self._ids((ask or self.replies)(self.unrelated, **how))
        return changed(now, self._ids(self.untouched(self.unrelated, **how)))

    def retention_nll(self) -> float:
        """Rise of the NLL of the untouched model's own replies to the unrelated questions, nats per token."""
        engine = self._engine
        prompts = [[{"role": "user", "content": q}] for q in self.unrelated]
        rows = [
            engine.encoder.plain(p, reply) for p, reply in zip(prompts, self.untouched(self.unrelated), strict=True)
        ]
        sizes = [len(row.completion_ids) for row in rows]
        touched = [i for i, p in enumerate(prompts) if engine.scope.choose(engine, p).serving.version]
        total = 0.0
        for model, sign in ((engine.shared_models.serving.model, -1), (engine.shared_models.base, 1)):
            scored = score_rows(model, [rows[i] for i in touched], engine.pad_id, MICRO_BATCH)
            total += sign * sum(row.mean_logp * sizes[i] for row, i in zip(scored, touched, strict=True))
        return total / sum(sizes)

    def accuracy(self, *, frozen: bool = False) -> float:
        """Share of the multiple-choice questions answered right, by the options' text normalised by its length."""
        engine, models = self._engine, self._engine.shared_models
        if self._base_logps is None:
            self._base_logps = [self._option_logps(models.base, choice) for choice in self.choices]
        logps = list(self._base_logps)
        for i, choice in enumerate(self.choices if not frozen else ()):
            model = engine.scope.serving(engine, [{"role": "user", "content": choice.question}]).model
            if model is not models.base:
                logps[i] = self._option_logps(model, choice)
        lengths = [[len(option) for option in choice.options] for choice in self.choices]
        return right_choices(logps, lengths, [choice.right for choice in self.choices])

    def _option_logps(self, model: Any, choice: Choice) -> list[float]:
        return [
            row.masked_logp for row in score_rows(model, self._option_rows(choice), self._engine.pad_id, MICRO_BATCH)
        ]

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
