"""One learning round: train, check at the gate, try again where it fails. No database, no publishing."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from spear_core.config import SpearConfig
from spear_core.inference.rollout import answer_all
from spear_core.inference.scope import Covers, everything
from spear_core.models.prompts import template_token_ids
from spear_core.models.shared_base import AdapterState, SharedBaseModels
from spear_core.models.thoughts import answer_of
from spear_core.training.attempts import Attempts
from spear_core.training.gate import ChangedAnswer, GateVerdict, Reason, decide
from spear_core.training.judge import normalised
from spear_core.training.material import Anchors, HeldNeighbour, HeldNeighbours, Material, cap_loses
from spear_core.training.neighbours import Neighbour, Neighbours, cut, telling_words
from spear_core.training.probes import READ_TOKENS, Measures, Probe, ProbeKind, Probes, StarterReadings, measure
from spear_core.training.scoring import Row, score_rows
from spear_core.training.traces import Encoded, Encoder, Messages, TrainingTrace
from spear_core.training.trainer import Progress, Report, Trainer
from spear_core.training.wordings import Wordings

log = logging.getLogger(__name__)
_T = TypeVar("_T")
OLDER_CHECKED = 64  # older confirmed wins the gate re-asks
TAUGHT_TOKENS = 12  # of a taught answer that are forced upon a neighbour
CONSOLIDATED_A_STEP = 4  # corrections in a mini-batch, each as it was asked and in another wording
EARLIER_NEIGHBOURS = 12  # earlier corrections whose neighbours a round holds, and the gate asks
REPLIES_CHECKED = 4
LOST_NAMED = 8  # earlier confirmations that were lost, of which it is told what is said instead
CHECKED_TOKENS = 64  # of each answer that a round asks for
# nats per token: a confirmed answer is trained again once a merge has lowered it by this much, below SURE
WEAKENED, SURE = 0.02, -0.05


@dataclass(frozen=True)
class RoundResult:
    """The new adapter where `verdict.passed`, and everything worth recording either way."""

    state: AdapterState | None
    verdict: GateVerdict
    report: Report
    before: Measures
    after: Measures
    attempts: int
    seconds: float
    proof: tuple[Messages, str, str] | None  # prompt, greedy answer before, greedy answer after


@dataclass
class Learner:
    """What stays the same from round to round: the two models, the encoder, the anchors and the gate's probes."""

    shared_models: SharedBaseModels
    encoder: Encoder
    config: SpearConfig
    anchors: Anchors
    probes: Probes
    pad_id: int
    priority: Callable[[], None] = lambda: None  # called between two pieces of work; may wait
    aside: Callable[[], None] = lambda: None  # the same in the middle of one: before each layer and each encoding

    def __post_init__(self) -> None:
        self.shared_models.pause_before_layers(self.aside)
        self.wordings = Wordings(self.encoder, self.config.wordings)
        self._accepted: tuple[AdapterState, StarterReadings] | None = None  # what the gate last let pass

    def forget(self, keep: Sequence[Encoded]) -> None:
        """Drop what is kept of every text but these, and what the last accepted adapter said: it may be people's words."""
        self._accepted = None
        self.wordings.forget()
        self.anchors.forget(keep)

    def answer(self, prompts: Sequence[Messages]) -> list[str]:
        """Greedy answers of the training model."""
        return answer_all(
            self.shared_models.training,
            self.encoder.tokenizer,
            prompts,
            context_tokens=self.encoder.context_tokens,
            max_new_tokens=min(self.config.max_new_tokens, CHECKED_TOKENS),
            priority=self.priority,
        )

    def judge(
        self, current: AdapterState | None, candidate: AdapterState, confirmed: Sequence[TrainingTrace]
    ) -> tuple[GateVerdict, Measures]:
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
        return decide(before, after, self.answer(asked), self.config, probes.all, Reason.UPLOADED), after

    def run_round(
        self,
        current: AdapterState | None,
        wins: Sequence[TrainingTrace],
        loses: Sequence[TrainingTrace],
        replay: Sequence[TrainingTrace],
        seed: int,
        on_step: Callable[[Progress], None] = lambda p: None,
        on_check: Callable[[], None] = lambda: None,
        neighbours: Mapping[str, Neighbours] | None = None,
        covers: Covers = everything,
        before_text: str | None = None,
    ) -> RoundResult:
        """Train on top of `current` (None: the base) and judge. Raises TrainingFailed where the numbers break.

        `neighbours` are those of the wins and of the replayed ones, by the traces' keys. `covers` says of questions
        whether the new adapter will be the one that answers each; where not, it changes nothing there. `before_text` is
        what was said to the last win's prompt until now; the model is asked where it is None.

        An adapter that is refused only because other answers moved, or because earlier confirmations were lost, is repaired
        by `repair_steps` further steps, in which leaking neighbours are held too and what was lost is practised again. One
        that came nearer to the right answer without giving it is trained on. Without `repair_steps`, and for any other
        reason, it is trained again as ATTEMPTS says, with other draws of anchors and replay; after a refusal for drift with
        anchors that have HOLES, because after many rounds whole anchors are known by heart and no longer hold other answers.
        """
        started = time.monotonic()
        material, probes, checked = self._prepared(wins, loses, replay, seed, neighbours or {})
        probes = probes.marked(covers)

        def measured(known: StarterReadings | None = None) -> Measures:
            return self._measured(material.wins, material.loses, checked, probes, known)

        self.shared_models.load(current)
        before = measured(self._known_of(current))
        forgotten = [e for e, held in zip(checked, before.held, strict=True) if not held]
        material = replace(material, forgotten=forgotten)
        shown = wins[-1].prompt if wins else None
        if before_text is None:
            before_text = self.answer([shown])[0] if shown else ""
        attempt = Attempts(self, current, material, checked, probes, before, seed, on_step, on_check, measured)
        verdict, report, after, replies, attempts = attempt.run([w.prompt for w in wins[-REPLIES_CHECKED:]])
        proof = (shown, before_text, replies[-1]) if shown else None
        if verdict.passed and verdict.figures.lost:
            lost = self._lost(_sample(replay, seed), before, after)
            figures = replace(verdict.figures, changed=(*verdict.figures.changed, *lost))
            verdict = replace(verdict, figures=figures)
        return self._result(verdict, report, before, after, started, attempts, proof)

    def _lost(self, checked: Sequence[TrainingTrace], before: Measures, after: Measures) -> list[ChangedAnswer]:
        """The earlier confirmations that no longer hold, with what is said instead; `checked` as in the measures."""
        lost = [t for t, was, still in zip(checked, before.held, after.held, strict=True) if was and not still]
        said = self.answer([t.prompt for t in lost[:LOST_NAMED]])
        return [
            ChangedAnswer(
                ProbeKind.EARLIER, t.prompt[-1]["content"], answer_of(t.completion), answer_of(now), leaks=False
            )
            for t, now in zip(lost, said, strict=False)
            if not normalised(t.completion).startswith(normalised(now))  # a tie, or a long answer that was cut here
        ]

    def consolidate(
        self,
        current: AdapterState | None,
        own: Sequence[TrainingTrace],
        seed: int,
        on_step: Callable[[Progress], None] = lambda p: None,
        neighbours: Mapping[str, Neighbours] | None = None,
        covers: Covers = everything,
    ) -> RoundResult:
        """Practise all corrections together in mini-batches, each in one of its wordings, and judge.

        Training corrections one after the other, each until it is learned, is where forgetting comes from; mini-batches
        over all of them undo it (LocFT-BF, arXiv 2509.22072). Raises TrainingFailed where the numbers break.
        """
        started = time.monotonic()
        material, probes, checked = self._prepared([], [], own, seed, neighbours or {})
        probes = probes.marked(covers)
        cfg = self.config.replace(
            max_steps=self.config.consolidation_steps,
            stop_when_learned=False,
            wins_a_step=CONSOLIDATED_A_STEP,
            wordings_a_step=1,
            earlier_neighbours_a_step=self.config.neighbours_a_step + self.config.earlier_neighbours_a_step,
        )
        material = replace(material, wins=material.replay, replay=())
        self.shared_models.load(current)
        before = self._measured([], [], checked, probes, self._known_of(current))
        report = self.trainer(cfg).train(material, seed, on_step, self.config.learning_rate / 2)
        after = self._measured([], [], checked, probes)
        verdict = decide(
            before, after, self.answer([t.prompt for t in own[:REPLIES_CHECKED]]), cfg, probes.all, Reason.CONSOLIDATED
        )
        log.info("consolidation: %d steps over %d corrections, %s", report.steps, len(own), verdict.reason)
        return self._result(verdict, report, before, after, started)

    def run_merge(
        self,
        current: AdapterState | None,
        merged: AdapterState,
        own: Sequence[TrainingTrace],
        seed: int,
        covers: Covers = everything,
    ) -> RoundResult:
        """Adopt an adapter merged with peers': train the own confirmed wins again that it weakened, and judge.

        Averaging weakens each peer's corrections. Each peer restores its own and shares the result, so that after some
        syncs all of them hold (FedAvg with local training between). `covers` is that of `run_round`.
        Raises TrainingFailed where the numbers break.
        """
        started = time.monotonic()
        wins = self._encoded(own)
        checked = _sample(wins, seed)
        corrected = {e.prompt_ids for e in wins}
        probes = self.probes.without(corrected).marked(covers)
        self.shared_models.load(current)
        before, was = self._measured([], [], checked, probes, self._known_of(current)), self._rows(wins)
        self.shared_models.load(merged)
        now = self._rows(wins)
        weak = [
            e
            for e, old, new in zip(wins, was, now, strict=True)
            if old.learned and not (new.learned and new.mean_logp >= min(old.mean_logp - WEAKENED, SURE))
        ]
        held = [e for e in wins if e not in weak]
        material = Material(weak, [], held, self.anchors.without(corrected))
        report = self.trainer(self.config).train(material, seed)
        after = self._measured([], [], checked, probes)
        replies = self.answer([t.prompt for t in own[-REPLIES_CHECKED:]]) if own else []
        verdict = decide(before, after, replies, self.config, probes.all, Reason.MERGED)
        log.info("merge: %d of %d own wins trained again, %s", len(weak), len(wins), verdict.reason)
        return self._result(verdict, report, before, after, started)

    def _result(
        self,
        verdict: GateVerdict,
        report: Report,
        before: Measures,
        after: Measures,
        started: float,
        attempts: int = 1,
        proof: tuple[Messages, str, str] | None = None,
    ) -> RoundResult:
        """`started` is the monotonic time at which the round began, in seconds."""
        state = self.shared_models.state() if verdict.passed else None
        if state is not None and after.starters is not None:
            self._accepted = state, after.starters
        return RoundResult(state, verdict, report, before, after, attempts, time.monotonic() - started, proof)

    def _prepared(
        self,
        wins: Sequence[TrainingTrace],
        loses: Sequence[TrainingTrace],
        replay: Sequence[TrainingTrace],
        seed: int,
        neighbours: Mapping[str, Neighbours],
    ) -> tuple[Material, Probes, list[Encoded]]:
        """What a round trains on, what the gate asks, and the older wins that it asks again."""
        cfg = self.config
        encoded_wins = self._encoded(wins)
        every_lose = [self.encoder.losing(t, wins, cfg) for t in self._one_by_one(loses)]
        encoded_loses = cap_loses(every_lose, len(wins), cfg, random.Random(seed))  # the gate looks at what is trained
        older = self._encoded(replay)
        corrected = {e.prompt_ids for e in (*encoded_wins, *older)}  # is meant to differ from what the base model says
        answered = {key: [(n.prompt, n.answer) for n in of_trace.wordings] for key, of_trace in neighbours.items()}
        self.wordings.know([*replay, *wins], [*older, *encoded_wins], answered)
        said_wrong = {json.dumps(list(t.prompt)): t.completion for t in loses}

        def near(traces: Sequence[TrainingTrace]) -> list[tuple[TrainingTrace, Neighbours]]:
            return [(t, neighbours[t.key]) for t in traces if t.key in neighbours]

        asked_near = [*near(wins), *_sample(near(replay), seed, EARLIER_NEIGHBOURS)]
        probes = [
            self._neighbour_probe(t, n, said_wrong.get(json.dumps(list(t.prompt)), ""))
            for t, of_trace in asked_near
            for n in of_trace.probes
        ]
        held = HeldNeighbours(
            self.anchors.with_examples([]),
            [self._held(t, n) for t, of in near(wins) for n in of.trained],
            [self._held(t, n) for t, of in _sample(near(replay), seed, EARLIER_NEIGHBOURS) for n in of.trained],
        )
        material = Material(
            encoded_wins,
            encoded_loses,
            older,
            self.anchors.without(corrected),
            neighbours=held if held.new or held.earlier else None,
            wordings=self.wordings if cfg.wordings else None,
        )
        asked = self.probes.with_probes([*self.probes.all, *probes]).without(corrected)
        return material, asked, _sample(older, seed)

    def _held(self, trace: TrainingTrace, near: Neighbour) -> HeldNeighbour:
        cfg = self.config
        own = cut(self.encoder.plain(near.prompt, near.answer), cfg.neighbour_tokens)
        taught = cut(self.encoder.plain(near.prompt, answer_of(trace.completion)), TAUGHT_TOKENS)
        return HeldNeighbour(
            replace(own, confidence=cfg.neighbour_weight), replace(taught, confidence=cfg.taught_weight)
        )

    def _neighbour_probe(self, trace: TrainingTrace, near: Neighbour, said_wrong: str) -> Probe:
        question = near.prompt[-1]["content"]
        telling = telling_words(answer_of(trace.completion), trace.prompt[-1]["content"], question, said_wrong)
        return Probe(
            cut(self.encoder.plain(near.prompt, near.answer), READ_TOKENS), ProbeKind.NEIGHBOUR, question, telling
        )

    def _encoded(self, traces: Sequence[TrainingTrace]) -> list[Encoded]:
        return [self.encoder.trace(trace) for trace in self._one_by_one(traces)]

    def _one_by_one(self, traces: Sequence[TrainingTrace]) -> Iterator[TrainingTrace]:
        for trace in traces:
            self.aside()
            yield trace

    def trainer(self, config: SpearConfig) -> Trainer:
        template = template_token_ids(self.encoder.tokenizer)
        return Trainer(self.shared_models.training, config, self.pad_id, template, self.priority)

    def _known_of(self, state: AdapterState | None) -> StarterReadings | None:
        """What was read of the starter probes when this very adapter was accepted; None where another one was."""
        return self._accepted[1] if self._accepted is not None and self._accepted[0] is state else None

    def _measured(
        self,
        wins: Sequence[Encoded],
        loses: Sequence[Encoded],
        older: Sequence[Encoded],
        probes: Probes,
        known: StarterReadings | None = None,
    ) -> Measures:
        model, tokenizer, micro_batch = self.shared_models.training, self.encoder.tokenizer, self.config.micro_batch
        return measure(model, tokenizer, wins, loses, older, probes, self.pad_id, micro_batch, self.priority, known)

    def _rows(self, examples: Sequence[Encoded]) -> list[Row]:
        return score_rows(self.shared_models.training, examples, self.pad_id, self.config.micro_batch, self.priority)


def _sample(older: Sequence[_T], seed: int, most: int = OLDER_CHECKED) -> list[_T]:
    """A seeded choice of at most `most`, in random order where some are left out."""
    return list(older) if len(older) <= most else random.Random(seed).sample(list(older), most)
