"""The attempts of a round: what is tried again, and how, where the gate refuses an adapter. No database, no publishing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spear_core.config import SpearConfig
from spear_core.models.shared_base import AdapterState
from spear_core.training.gate import GateVerdict, decide
from spear_core.training.material import HeldNeighbour, HeldNeighbours, Material
from spear_core.training.neighbours import cut
from spear_core.training.probes import Measures, Probes
from spear_core.training.traces import Messages
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
        only_for_drift: whether it is made only where the attempt before was refused for drift.
    """

    rate: float = 1.0
    only_for_drift: bool = False


ATTEMPTS = (
    AttemptSettings(),
    AttemptSettings(rate=0.5),
    AttemptSettings(only_for_drift=True),
)


@dataclass(frozen=True)
class Attempts:
    """The attempts of one round, until the gate accepts one or none is left."""

    learner: Learner
    current: AdapterState | None
    material: Material
    probes: Probes
    before: Measures
    seed: int
    on_step: Callable[[Progress], None]
    on_check: Callable[[], None]
    measured: Callable[[], Measures]

    def run(self, asked: Sequence[Messages]) -> tuple[GateVerdict, Report, Measures, list[str], int]:
        """The last verdict, its training and measures, the replies to `asked`, and how many attempts there were."""
        cfg = self.learner.config
        material, repaired = self.material, False
        attempts = 0
        while True:
            if not repaired:
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
            if ATTEMPTS[attempts].only_for_drift and not verdict.is_drift:
                break
            repaired = verdict.is_drift and self.learner.config.repair_steps > 0
            if repaired:
                cfg, material = self._repair(material, after)
            elif verdict.is_drift:
                cfg = cfg.replace(anchor_dropout=max(HOLES, cfg.anchor_dropout))
        return verdict, report, after, replies, attempts

    def _repair(self, material: Material, after: Measures) -> tuple[SpearConfig, Material]:
        """Settings and material of a few steps that hold other answers harder, leaking neighbours among them."""
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
        firm = config.replace(
            max_steps=2 * steps,
            settle_steps=steps,
            anchor_weight=2 * config.anchor_weight,
            anchors_a_step=2 * config.anchors_a_step,
            neighbours_a_step=max(2 * config.neighbours_a_step, len(leaking)),
        )
        return firm, replace(material, neighbours=near)
