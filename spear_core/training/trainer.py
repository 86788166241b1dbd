"""The optimiser steps of one round on the training model: wins, losing traces, anchors. No gate, no files."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from peft import PeftModel
from torch import Tensor, nn

from spear_core.config import SpearConfig
from spear_core.errors import TrainingFailed
from spear_core.models.decoder_layers import checkpointed, evaluating
from spear_core.training.losses import lose_loss, win_loss
from spear_core.training.material import Anchors, DriftDraw, Material, cap_loses, draw_some, worded
from spear_core.training.packing import batches_by_prompt
from spear_core.training.scoring import Row, predict, score_rows
from spear_core.training.traces import Encoded

log = logging.getLogger(__name__)
LOSSES = ("win", "lose", "anchor", "neighbour")
SMALL_P = 0.05  # a rejected answer this improbable need not fall further
PATIENCE = 8  # times the settling steps are spent on making a rejected answer fall that rose with the right one
REPLAY_DRIFT_SHARE = 0.5  # of a step's earlier right answers: those that training moved most
REPLAY_LOOKED_AT = 64  # of them, how many are read again once the new answers are learned
LOST = 1.0  # nats a token: how far an earlier right answer counts as moved where it is not given any more
PRESSURE = 0.1  # weight of unlikelihood, without a margin, in these further steps where the preset has none


@dataclass(frozen=True)
class Progress:
    """Reported after every step: the step, and how many there are at most."""

    step: int
    max_steps: int


@dataclass(frozen=True)
class Report:
    """Means over the steps, unless said otherwise."""

    steps: int
    learned: bool  # every human-confirmed new win is reproduced greedily
    win_loss: float
    lose_loss: float
    anchor_kl: float
    seconds: float
    skipped: bool = False
    neighbour_kl: float = 0.0


@dataclass(frozen=True)
class _Held:
    """An example that is held to the base model, and who is told how far it is from it."""

    example: Encoded
    pool: Anchors
    draw: DriftDraw
    index: int
    is_neighbour: bool = False


@dataclass(frozen=True)
class _Part:
    """The rows of one micro-step."""

    wins: Sequence[Encoded]
    replayed: Sequence[int | None]  # of each win, its index among the earlier ones; None: it is new
    loses: Sequence[Encoded]
    held: Sequence[_Held]  # anchors before neighbours, and of the anchors those first whose questions were cut
    lambda_lose: float
    margin: float


class _Draws:
    """Of one round: its earlier wins, anchors and neighbours, and what of them each step takes."""

    def __init__(self, material: Material, config: SpearConfig, rng: random.Random) -> None:
        self.anchors = material.anchors or Anchors([])
        near = material.neighbours
        self.pool = near.pool if near else Anchors([])
        self.sets = (
            ((near.new, config.neighbours_a_step), (near.earlier, config.earlier_neighbours_a_step)) if near else ()
        )
        share = config.anchor_drift_share
        self.of_anchors = DriftDraw(len(self.anchors.examples), rng, share)
        self.of_neighbours = [DriftDraw(len(neighbours), rng, share) for neighbours, _ in self.sets]
        self.of_replay = DriftDraw(len(material.replay), rng, REPLAY_DRIFT_SHARE)
        forgotten = set(material.forgotten)
        # until they are seen to be given again
        self.lost = {i for i, e in enumerate(material.replay) if e in forgotten}
        self.of_replay.drift |= dict.fromkeys(self.lost, LOST)

    def anchor_indices(self, count: int) -> list[int]:
        drawn = self.of_anchors.draw(count)
        return sorted(drawn, key=lambda i: self.anchors.examples[i].base_prompt_ids is not None)

    def note_replayed(self, index: int, logp: float) -> None:
        """Remember how far an earlier win has moved; `logp` is its mean log-probability in nats per token."""
        self.of_replay.drift[index] = (LOST if index in self.lost else 0.0) - logp

    def neighbours(self) -> list[_Held]:
        out = []
        for draw, (neighbours, count) in zip(self.of_neighbours, self.sets, strict=True):
            for i in draw.draw(count):
                draw.drift.pop(i, None)  # both of its examples say again how far they are
                out += [_Held(e, self.pool, draw, i, True) for e in (neighbours[i].own, neighbours[i].taught)]
        return out


class Trainer:
    """Trains the LoRA parameters of one PeftModel. `priority` is called between micro-steps and may wait."""

    def __init__(
        self,
        model: PeftModel,
        config: SpearConfig,
        pad_id: int,
        template_ids: frozenset[int],
        priority: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.config = config
        self.pad_id = pad_id
        self.template_ids = template_ids
        self.priority = priority

    def train(
        self,
        material: Material,
        seed: int,
        on_step: Callable[[Progress], None] = lambda p: None,
        learning_rate: float | None = None,
    ) -> Report:
        """Run the steps of a round. Without a win nothing is trained (unlikelihood alone collapses the model).

        Raises TrainingFailed on a loss or gradient that is not finite.
        """
        cfg = self.config
        started = time.monotonic()
        if not material.wins:
            return Report(0, False, 0.0, 0.0, 0.0, 0.0, skipped=True)
        rng = random.Random(seed)
        loses = cap_loses(material.loses, len(material.wins), cfg, rng)
        rejected = [e for e in loses if any(e.mask)]
        confirmed = [*(w for w in material.wins if w.confirmed), *material.regained]
        max_steps = cfg.max_steps if confirmed or not cfg.stop_when_learned else min(cfg.judged_steps, cfg.max_steps)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=learning_rate or cfg.learning_rate, betas=(0.9, cfg.adam_beta2), weight_decay=0.0
        )
        self.model.train(cfg.lora_dropout > 0)
        sums = dict.fromkeys(LOSSES, 0.0)
        steps, learned = 0, False
        try:
            with self._modes(seed):
                draws = _Draws(material, cfg, rng)
                settled = 0  # steps done since everything was learned
                highest = max(self._probability(rejected), SMALL_P) if cfg.stop_when_learned else 1.0
                drift = 0.0  # of the last step's anchors
                pressing = False  # all is learned, but a rejected answer rose too
                while steps < max_steps:
                    if cfg.stop_when_learned and confirmed and (settled or steps % cfg.check_every == 0):
                        learned = settled > 0 or self._all_learned(confirmed)
                        if learned and not settled and cfg.replay_wins:
                            self._look_at_replay(material, draws, rng)
                        settled_enough = learned and settled >= cfg.settle_steps and drift <= cfg.settle_drift
                        out_of_patience = settled >= PATIENCE * cfg.settle_steps
                        if settled_enough and (out_of_patience or self._probability(rejected) <= highest):
                            # other wordings have other answers, which may have pulled this one away again
                            if material.wordings is None or self._all_learned(confirmed):
                                break
                            learned, settled, settled_enough = False, 0, False
                        pressing = settled_enough
                        settled += learned
                    values = self._step(material, loses, draws, optimizer, parameters, rng, pressing)
                    drift = max(values["anchor"], values["neighbour"])
                    for name, value in values.items():
                        sums[name] += value
                    steps += 1
                    on_step(Progress(steps, max_steps))
                if confirmed and (settled or not learned):
                    learned = self._all_learned(confirmed)
        finally:
            self.model.eval()
            optimizer.zero_grad(set_to_none=True)
        n = max(steps, 1)
        seconds = time.monotonic() - started
        return Report(
            steps,
            learned,
            sums["win"] / n,
            sums["lose"] / n,
            sums["anchor"] / n,
            seconds,
            neighbour_kl=sums["neighbour"] / n,
        )

    @contextlib.contextmanager
    def _modes(self, seed: int) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if self.config.lora_dropout > 0:
                stack.enter_context(_dropout_seed(seed))
            if self.config.gradient_checkpointing:
                stack.enter_context(checkpointed(self.model))
            yield

    def _rows(self, examples: Sequence[Encoded]) -> list[Row]:
        with evaluating(self.model):  # as it will answer
            return score_rows(self.model, examples, self.pad_id, self.config.micro_batch, self.priority)

    def _all_learned(self, confirmed: Sequence[Encoded]) -> bool:
        return all(row.learned for row in self._rows(confirmed))

    def _probability(self, rejected: Sequence[Encoded]) -> float:
        """Of what made the rejected answers wrong, mean over the answers."""
        return sum(math.exp(row.masked_logp) for row in self._rows(rejected)) / max(1, len(rejected))

    def _look_at_replay(self, material: Material, draws: _Draws, rng: random.Random) -> None:
        """See which earlier right answers the new ones have moved, once those are learned: the settling steps practise them.

        After "maximally interfered retrieval" (arXiv 1908.04742), which looks a step ahead, and at every step.
        """
        indices = rng.sample(range(len(material.replay)), min(REPLAY_LOOKED_AT, len(material.replay)))
        for i, row in zip(indices, self._rows([material.replay[i] for i in indices]), strict=True):
            (draws.lost.discard if row.learned else draws.lost.add)(i)
            draws.note_replayed(i, row.mean_logp)

    # -- one step --------------------------------------------------------------------------------------------

    def _step(
        self,
        material: Material,
        loses: list[Encoded],
        draws: _Draws,
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        rng: random.Random,
        pressing: bool,
    ) -> dict[str, float]:
        cfg = self.config
        lambda_lose, margin = (PRESSURE, 0.0) if pressing and not cfg.lambda_lose else (cfg.lambda_lose, cfg.margin)
        new = draw_some(material.wins, cfg.wins_a_step, rng)
        older = draws.of_replay.draw(cfg.replay_wins)
        wins = worded(new, [material.replay[i] for i in older], material.wordings, cfg.wordings_a_step, rng)
        replayed = [*[None] * (len(wins) - len(older)), *older]
        drawn_loses = draw_some(loses, cfg.loses_a_step, rng) if lambda_lose > 0 else []
        drawn = draws.anchor_indices(cfg.anchors_a_step) if cfg.anchor_weight > 0 else []
        asked = self._drop([*wins, *drawn_loses], rng, cfg.prompt_dropout)
        anchors = self._drop_of_anchors(draws.anchors, drawn, rng)
        held = [_Held(e, draws.anchors, draws.of_anchors, i) for e, i in zip(anchors, drawn, strict=True)]
        held += draws.neighbours()
        rows = [*asked, *(h.example for h in held)]
        sides = (0, *itertools.accumulate([len(wins), len(drawn_loses), len(drawn), len(held) - len(drawn)]))
        tokens = [max(1.0, float(sum(sum(e.mask) for e in rows[a:b]))) for a, b in itertools.pairwise(sides)]
        totals = dict(zip(LOSSES, tokens, strict=True))
        mean = sum(e.confidence for e in drawn_loses) / max(1, len(drawn_loses))
        values = dict.fromkeys(LOSSES, 0.0)
        for indices in batches_by_prompt(rows, cfg.micro_batch):
            of_wins, of_loses, of_held = (
                [i for i in sorted(indices) if a <= i < b]
                for a, b in ((0, sides[1]), (sides[1], sides[2]), (sides[2], len(rows)))
            )
            part = _Part(
                [rows[i] for i in of_wins],
                [replayed[i] for i in of_wins],
                [rows[i] for i in of_loses],
                [held[i - sides[2]] for i in of_held],
                lambda_lose,
                margin,
            )
            for name, value in self._part(part, draws, totals, mean).items():
                values[name] += value
        norm = torch.nn.utils.clip_grad_norm_(parameters, cfg.max_grad_norm)
        if not all(math.isfinite(v) for v in values.values()) or not math.isfinite(norm.item()):
            raise TrainingFailed("the training step gave a loss or gradient that is not a finite number")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return values

    def _part(
        self, part: _Part, draws: _Draws, totals: dict[str, float], mean_lose_confidence: float
    ) -> dict[str, float]:
        """One micro-step: a backbone pass over all its rows together, and its gradients. Returns the losses.

        Who drew the earlier wins, anchors and neighbours is told how far each has moved, in nats per token.
        """
        cfg = self.config
        self.priority()
        held = [h.example for h in part.held]
        base = self._base(part.held) if held else None
        both = predict(self.model, [*part.wins, *part.loses, *held], self.pad_id)
        wins, rest = both.split(len(part.wins))
        loses, anchored = rest.split(len(part.loses))
        losses: dict[str, Tensor] = {}
        if part.wins:
            scores = wins.scores()
            losses["win"] = win_loss(scores.logps, scores.scored.float(), self._confidence(part.wins), totals["win"])
            sums = scores.logps.detach().sum(-1).tolist()
            for index, total, e in zip(part.replayed, sums, part.wins, strict=True):
                if index is not None:
                    draws.note_replayed(index, total / len(e.completion_ids))
        if part.loses:
            scores, confidence = loses.scores(), self._confidence(part.loses)
            if cfg.confidence_form == "batch_mean":
                confidence = torch.full_like(confidence, mean_lose_confidence)
            losses["lose"] = lose_loss(scores.logps, scores.scored.float(), confidence, part.margin, totals["lose"])
        if base is not None:
            kl = anchored.kl_from(base)[0]  # (tokens,)
            anchors = sum(not h.is_neighbour for h in part.held)
            is_anchor = anchored.packed.examples < anchors
            if anchors:
                losses["anchor"] = kl[is_anchor].sum() / totals["anchor"]
            if anchors < len(held):
                weight = self._confidence(held)[anchored.packed.examples[~is_anchor]]
                losses["neighbour"] = (weight * kl[~is_anchor]).sum() / totals["neighbour"]
            each = anchored.packed.unflatten(kl.detach(), anchored.shape).sum(-1).tolist()
            for h, total in zip(part.held, each, strict=True):
                h.draw.drift[h.index] = max(
                    h.draw.drift.get(h.index, 0.0) * h.is_neighbour, total / len(h.example.completion_ids)
                )
        weights = {"win": cfg.lambda_win, "lose": part.lambda_lose, "anchor": cfg.anchor_weight, "neighbour": 1.0}
        sum((weights[name] * loss for name, loss in losses.items()), torch.zeros(())).backward()
        return {name: loss.item() for name, loss in losses.items()}

    def _base(self, held: Sequence[_Held]) -> Tensor:
        """What the base model says of these. Of anchors whose questions were cut it is asked, and nothing is kept."""
        cut = [
            h.example
            for h in held
            if self.config.anchor_dropout and not h.is_neighbour and h.example.base_prompt_ids is None
        ]
        parts = [held[0].pool.base_once(self.model, cut, self.pad_id)] if cut else []
        for pool, of_pool in itertools.groupby(held[len(cut) :], key=lambda h: h.pool):
            parts.append(pool.base(self.model, [h.example for h in of_pool], self.pad_id))
        return torch.cat(parts)

    def _drop_of_anchors(self, pool: Anchors, drawn: Sequence[int], rng: random.Random) -> list[Encoded]:
        """The drawn anchors, their questions cut for both models alike; whole where the base model is shown another."""
        anchors = [pool.examples[i] for i in drawn]
        cut = [e for e in anchors if e.base_prompt_ids is None]
        return [*self._drop(cut, rng, self.config.anchor_dropout), *anchors[len(cut) :]]

    def _confidence(self, examples: Sequence[Encoded]) -> Tensor:
        device = next(self.model.parameters()).device
        return torch.tensor([e.confidence for e in examples], device=device)  # (B,)

    def _drop(self, examples: list[Encoded], rng: random.Random, share: float) -> list[Encoded]:
        """Leave out a share of the question's ordinary tokens, so that the answer hangs on what all wordings share."""
        if share <= 0:
            return examples
        dropped: dict[tuple[int, ...], tuple[int, ...]] = {}  # once a prompt: what shares a prompt goes on sharing it
        for e in examples:
            if e.prompt_ids not in dropped:
                kept = (t for t in e.prompt_ids if t in self.template_ids or rng.random() >= share)
                dropped[e.prompt_ids] = tuple(kept) or e.prompt_ids[-1:]
        return [replace(e, prompt_ids=dropped[e.prompt_ids]) for e in examples]


@contextlib.contextmanager
def _dropout_seed(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
