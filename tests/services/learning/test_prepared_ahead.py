"""What a correction would wait for is made once a reply is rejected, and gives way to the correction itself."""

from __future__ import annotations

from typing import Any

import pytest

from services.app import AppServices
from spear_core.training.material import WARMED_TOGETHER
from tests.services.conftest import OpenBench
from tests.services.harness import wrong_task


def kept(app: AppServices) -> int:
    """How many answers of the base model are kept for probes and anchors."""
    learner: Any = app.learning._runner._learner
    return len(learner.anchors._cache.rows) if learner else 0


def reject(app: AppServices) -> str:
    conversation = app.chat.new_conversation().id
    reply = list(app.chat.reply(conversation, wrong_task(app).question))[-1]
    app.feedback.dislike(reply.id)
    return reply.id


@pytest.mark.slow
def test_nothing_is_made_before_a_reply_is_rejected_and_then_all_of_it(open_app: OpenBench) -> None:
    app = open_app()
    app.learning.prepare_replies()
    app.learning.run_pending()
    assert kept(app) == 0
    reject(app)
    app.learning.run_pending()
    learner: Any = app.learning._runner._learner
    assert kept(app) >= len({e.prompt_ids for e in learner.anchors.examples}) > 2 * WARMED_TOGETHER


def test_a_correction_that_comes_meanwhile_is_not_kept_waiting(open_app: OpenBench) -> None:
    app = open_app()
    reply = reject(app)
    give_way = app.engine.priority.give_way
    asked: list[int] = []

    def vote() -> None:
        asked.append(kept(app))
        if len(asked) == 2:
            app.feedback.edit(reply, "The owl.")
        give_way()

    app.engine.priority.give_way = vote  # type: ignore[method-assign]
    app.learning.run_pending()
    assert len(asked) == 2 and kept(app) <= WARMED_TOGETHER
    assert app.learning.status().pending_wins == 1


@pytest.mark.slow
def test_a_reply_comes_between_any_two_anchors(app: AppServices) -> None:
    aside: list[int] = []
    app.engine.priority.step_aside = lambda: aside.append(1)  # type: ignore[method-assign]
    held = app.learning._runner.held
    anchors = held.anchors(seed=1)
    assert len(aside) >= len({(e.prompt_ids, e.completion_ids) for e in anchors}) > WARMED_TOGETHER
    aside.clear()
    assert held.anchors(seed=1) == anchors and not aside, "they are kept"
