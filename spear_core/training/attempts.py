"""The attempts of a round: what is tried again, and how, where the gate refuses an adapter. No database, no publishing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spear_core.config import SpearConfig
from spear_core.models.shared_base import AdapterState
from spear_core.training.gate import GateVerdict, Reason, decide
from spear_core.training.material import HeldNeighbour, HeldNeighbours, Material
from spear_core.training.neighbours import cut
from spear_core.training.probes import Measures, Probes
from spear_core.training.traces import Encoded, Messages
from spear_core.training.trainer import Progress, Report

if TYPE_CHECKING:
    from spear_core.training.round import Learner

log = logging.getLogger(__name__)
HOLES = 0.2  # share of an anchor's question left out, once a round was refused for drift


@dataclass(frozen=True)
class AttemptSettings:
    """How one attempt differs from the configuration.

    Attributes:
        rate: factor on the learning rate.
        only_after_progress: whether it is made only where the attempt before it broke what can be repaired, or came
            nearer to the right answer without giving it.
    """

    rate: float = 1.0
    only_after_progress: bool = False


ATTEMPTS = (
    AttemptSettings(),
    AttemptSettings(rate=0.5),
    AttemptSettings(only_after_progress=True),
)


@dataclass(frozen=True)
class Attempts:
    """The attempts of one round, until the gate accepts one or none is left."""

    learner: Learner
    current: AdapterState | None
    material: Material
    older: Sequence[Encoded]  # earlier confirmations, in the order of `held` in the measures
    probes: Probes
    before: Measures
    seed: int
    on_step: Callable[[Progress], None]
    on_check: Callable[[], None]
    measured: Callable[[], Measures]

    def run(self, asked: Sequence[Messages]) -> tuple[GateVerdict, Report, Measures, list[str], int]:
        """The last verdict, its training and measures, the replies to `asked`, and how many attempts there were."""
        cfg = self.learner.config
        material, goes_on = self.material, False
        attempts = 0
        while True:
            if not goes_on:
                self.learner.shared_models.load(self.current)
            number = attempts
            attempts += 1
            trainer = self.learner.trainer(cfg)
            report = trainer.train(
                material, self.seed + number, self.on_step, ATTEMPTS[number].rate * cfg.learning_rate
            )
            self.on_check()
            after = self.measured()
            replies = self.learner.answer(asked) if asked else []
            verdict = decide(self.before, after, replies, cfg, self.probes.all)
            log.info("round attempt %d: %d steps, %s %s", attempts, report.steps, verdict.reason, verdict.figures.kind)
            if verdict.passed or report.skipped or attempts == len(ATTEMPTS):
                break
            harmed = verdict.is_drift or verdict.reason == Reason.FORGOTTEN
            nearer = verdict.reason == Reason.STILL_WRONG and after.win_logp > self.before.win_logp
            if ATTEMPTS[attempts].only_after_progress and not (harmed or nearer):
                break
            goes_on = harmed and self.learner.config.repair_steps > 0 or nearer
            if goes_on and harmed:
                cfg, material = self._repair(material, after)
            elif verdict.is_drift:
                cfg = cfg.replace(anchor_dropout=max(HOLES, cfg.anchor_dropout))
        return verdict, report, after, replies, attempts

    def _repair(self, material: Material, after: Measures) -> tuple[SpearConfig, Material]:
        """Settings and material of a few steps that hold other answers harder, leaking neighbours among them.

        Earlier confirmations that were lost are practised in every step, until they are right again.
        """
        config = self.learner.config
        steps = config.repair_steps
        leaking = [
            HeldNeighbour(
                replace(cut(p.example, config.neighbour_tokens), confidence=config.neighbour_weight),
                replace(
                    p.example, completion_ids=win.completion_ids, mask=win.mask, confidence=2 * config.taught_weight
                ),
            )
            for p, answer in zip(self.probes.all, after.answers, strict=True)
            if answer.leaks
            for win in material.wins
        ]
        near = material.neighbours
        if leaking:
            near = HeldNeighbours(
                near.pool if near else self.learner.anchors.with_examples([]),
                [*leaking, *(near.new if near else ())],
                near.earlier if near else (),
            )
        regained = [
            e for e, was, still in zip(self.older, self.before.held, after.held, strict=True) if was and not still
        ]
        lost = [e for e in regained if e not in material.forgotten]
        firm = config.replace(
            max_steps=3 * steps,
            # half of them are drawn from what was lost, and the others must not be lost for it
            replay_wins=2 * max(config.replay_wins, len(regained)),
            settle_steps=steps,
            anchor_weight=2 * config.anchor_weight,
            anchors_a_step=2 * config.anchors_a_step,
            neighbours_a_step=max(2 * config.neighbours_a_step, len(leaking)),
        )
        forgotten = [*material.forgotten, *lost]
        return firm, replace(material, neighbours=near, forgotten=forgotten, regained=regained)
