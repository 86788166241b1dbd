"""One learning round: train the twin, judge it at the gate, try again where it fails. No database, no publishing."""

from __future__ import annotations

import logging
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spear_core.config import SpearConfig
from spear_core.inference.rollout import answer_all
from spear_core.models.prompts import template_token_ids
from spear_core.models.shared_base import AdapterState, SharedBaseModels
from spear_core.training.gate import Measures, Verdict, decide, measure
from spear_core.training.scoring import Row, score_rows
from spear_core.training.traces import Encoded, Encoder, Messages, Trace
from spear_core.training.trainer import Anchors, Material, Progress, Report, Trainer, cap_loses

log = logging.getLogger(__name__)
OLDER_CHECKED = 64  # older confirmed wins the gate re-asks
REPLIES_CHECKED = 4
CHECKED_TOKENS = 64  # of each answer that a round asks for
HOLES = 0.2  # share of an anchor's question left out, once a round was refused for drift
# nats per token: a confirmed answer is trained anew once a merge has lowered it by this much, below SURE
WEAKENED, SURE = 0.02, -0.05


@dataclass(frozen=True)
class RoundResult:
    """The new adapter where `verdict.passed`, and everything worth recording either way."""

    state: AdapterState | None
    verdict: Verdict
    report: Report
    before: Measures
    after: Measures
    attempts: int
    seconds: float
    proof: tuple[Messages, str, str] | None  # prompt, greedy answer before, greedy answer after

    def figures(self) -> dict[str, Any]:
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            **asdict(self.report),
            "attempts": self.attempts,
            "round_seconds": round(self.seconds, 3),
            "peak_bytes": peak_bytes,
            "before": self.before.figures(),
            "after": self.after.figures(),
        }


@dataclass
class Learner:
    """What stays the same from round to round: the twins, the encoder, the anchors and the gate's probes."""

    shared_models: SharedBaseModels
    encoder: Encoder
    config: SpearConfig
    anchors: Anchors
    probes: Anchors
    pad_id: int
    priority: Callable[[], None] = lambda: None  # called between two pieces of work; may wait
    aside: Callable[[], None] = lambda: None  # the same in the middle of one: before each layer and each encoding

    def __post_init__(self) -> None:
        self.shared_models.pause_before_layers(self.aside)

    def answer(self, prompts: Sequence[Messages]) -> list[str]:
        """Greedy answers of the training twin."""
        return answer_all(
            self.shared_models.training,
            self.encoder.tokenizer,
            prompts,
            context_tokens=self.encoder.context_tokens,
            max_new_tokens=min(self.config.max_new_tokens, CHECKED_TOKENS),
            priority=self.priority,
        )

    def judge(
        self, current: AdapterState | None, candidate: AdapterState, confirmed: Sequence[Trace]
    ) -> tuple[Verdict, Measures]:
        """The gate for an adapter that was not trained here: what was confirmed must hold, and nothing else may move.

        Raises AdapterInvalid where the candidate does not fit the model.
        """
        encoded = self._encoded(confirmed)
        older = encoded[:OLDER_CHECKED]
        probes = self.probes.without({e.prompt_ids for e in encoded})
        measured = []
        for state in (current, candidate):
            self.shared_models.load(state)
            measured.append(self._measured([], [], older, probes))
        before, after = measured
        asked = [trace.prompt for trace in confirmed[:REPLIES_CHECKED]] or [
            [{"role": "user", "content": "Hello!"}],
        ]
        return decide(before, after, self.answer(asked), self.config), after

    def run_round(
        self,
        current: AdapterState | None,
        wins: Sequence[Trace],
        loses: Sequence[Trace],
        replay: Sequence[Trace],
        seed: int,
        on_step: Callable[[Progress], None] = lambda p: None,
        on_check: Callable[[], None] = lambda: None,
    ) -> RoundResult:
        """Train on top of `current` (None: the base) and judge. Raises TrainingFailed where the numbers break.

        What the gate refuses is tried once more, gentler and with other draws of anchors and replay. What it refuses
        because too much has moved that nobody complained about, which is the sum of many rounds, is tried up to twice
        more, with anchors that have HOLES: by then the whole ones are known by heart, and hold nothing beside them.
        """
        started = time.monotonic()
        cfg = self.config
        encoded_wins = self._encoded(wins)
        every_lose = [self.encoder.losing(t, wins, cfg) for t in self._one_by_one(loses)]
        encoded_loses = cap_loses(every_lose, len(wins), cfg, random.Random(seed))  # the gate looks at what is trained
        older = self._encoded(replay)
        checked = _sample(older, seed)
        corrected = {e.prompt_ids for e in (*encoded_wins, *older)}  # is meant to differ from what the base model says
        anchors, probes = self.anchors.without(corrected), self.probes.without(corrected)

        def measured() -> Measures:
            return self._measured(encoded_wins, encoded_loses, checked, probes)

        self.shared_models.load(current)
        before = measured()
        forgotten = [e for e, held in zip(checked, before.held, strict=True) if not held]
        material = Material(encoded_wins, encoded_loses, older, anchors, forgotten)
        shown = wins[-1].prompt if wins else None
        before_text = self.answer([shown])[0] if shown else ""
        verdict = Verdict(False, "")
        for attempt, rate in enumerate((cfg.learning_rate, cfg.learning_rate / 2, cfg.learning_rate), start=1):
            if attempt == 3 and not verdict.is_drift:
                break
            self.shared_models.load(current)
            if verdict.is_drift:
                cfg = cfg.replace(anchor_dropout=max(HOLES, cfg.anchor_dropout))
            report = self._trainer(cfg).train(material, seed + attempt - 1, on_step, rate)
            on_check()
            after = measured()
            asked = [w.prompt for w in wins[-REPLIES_CHECKED:]]
            replies = self.answer(asked) if asked else []
            verdict = decide(before, after, replies, cfg)
            attempts = attempt
            log.info("round attempt %d: %d steps, %s", attempt, report.steps, verdict.words)
            if verdict.passed or report.skipped:
                break
        return RoundResult(
            state=self.shared_models.state() if verdict.passed else None,
            verdict=verdict,
            report=report,
            before=before,
            after=after,
            attempts=attempts,
            seconds=time.monotonic() - started,
            proof=(shown, before_text, replies[-1]) if shown else None,
        )

    def run_merge(
        self,
        current: AdapterState | None,
        merged: AdapterState,
        own: Sequence[Trace],
        gained: str,
        seed: int,
    ) -> RoundResult:
        """Take over an adapter merged with peers': train anew what it weakened of the own confirmed wins, and judge.

        Averaging leaves a part of each peer's corrections. What this peer knows best how to restore are its own; as
        everyone does so and shares the result, all of them become whole (FedAvg with local training between).
        `gained` says in words what the merge brings. Raises TrainingFailed where the numbers break.
        """
        started = time.monotonic()
        wins = self._encoded(own)
        checked = _sample(wins, seed)
        corrected = {e.prompt_ids for e in wins}
        probes = self.probes.without(corrected)
        self.shared_models.load(current)
        before, was = self._measured([], [], checked, probes), self._rows(wins)
        self.shared_models.load(merged)
        now = self._rows(wins)
        weak = [
            e
            for e, old, new in zip(wins, was, now, strict=True)
            if old.learned and not (new.learned and new.mean_logp >= min(old.mean_logp - WEAKENED, SURE))
        ]
        held = [e for e in wins if e not in weak]
        material = Material(weak, [], held, self.anchors.without(corrected))
        report = self._trainer(self.config).train(material, seed)
        after = self._measured([], [], checked, probes)
        replies = self.answer([t.prompt for t in own[-REPLIES_CHECKED:]]) if own else []
        verdict = decide(before, after, replies, self.config, gained)
        log.info("merge: %d of %d own wins trained anew, %s", len(weak), len(wins), verdict.words)
        return RoundResult(
            state=self.shared_models.state() if verdict.passed else None,
            verdict=verdict,
            report=report,
            before=before,
            after=after,
            attempts=1,
            seconds=time.monotonic() - started,
            proof=None,
        )

    def _encoded(self, traces: Sequence[Trace]) -> list[Encoded]:
        return [self.encoder.trace(trace) for trace in self._one_by_one(traces)]

    def _one_by_one(self, traces: Sequence[Trace]) -> Iterator[Trace]:
        for trace in traces:
            self.aside()
            yield trace

    def _trainer(self, config: SpearConfig) -> Trainer:
        template = template_token_ids(self.encoder.tokenizer)
        return Trainer(self.shared_models.training, config, self.pad_id, template, self.priority)

    def _measured(
        self, wins: Sequence[Encoded], loses: Sequence[Encoded], older: Sequence[Encoded], probes: Anchors
    ) -> Measures:
        model, micro_batch = self.shared_models.training, self.config.micro_batch
        return measure(model, wins, loses, older, probes, self.pad_id, micro_batch, self.priority)

    def _rows(self, examples: Sequence[Encoded]) -> list[Row]:
        return score_rows(self.shared_models.training, examples, self.pad_id, self.config.micro_batch, self.priority)


def _sample(older: list[Encoded], seed: int) -> list[Encoded]:
    """What the gate asks again."""
    return older if len(older) <= OLDER_CHECKED else random.Random(seed).sample(older, OLDER_CHECKED)
