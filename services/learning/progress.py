"""Figures of learning progress from stored replies and rounds. No plots, no training."""

from __future__ import annotations

from feedback_store import Round
from services.engine import Engine
from services.views import ProgressView, RoundView

REPLIES = 1000
ROUNDS = 200


class ProgressService:
    """Builds the ProgressView of the present base model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def view(self) -> ProgressView:
        """Figures of the newest REPLIES replies and ROUNDS rounds."""
        store, base = self._engine.store, self._engine.base
        replies = store.first_replies(REPLIES)
        rounds = [r for r in reversed(store.rounds(base, ROUNDS)) if r.status in ("promoted", "discarded")]
        version = store.active_version(base)
        return ProgressView(
            first_try=tuple(reply.vote > 0 for reply in replies if reply.vote),
            replies=len(replies),
            revised=tuple(reply.fixed for reply in replies if reply.tried),
            rounds=tuple(map(_round_view, rounds)),
            learned=store.count_learned(base),
            version=version,
        )


def _round_view(r: Round) -> RoundView:
    figures = r.figures
    return RoundView(
        r.id,
        r.status == "promoted",
        r.verdict,
        figures.round_seconds or 0.0,
        figures.seconds_to_live,
        figures.steps or 0,
        figures.win_loss,
        figures.lose_loss,
        figures.anchor_kl,
    )
