"""Forget, pin, prune and self-play, on the real pocket model."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from services.app import AppServices
from services.learning import self_play as selfplay
from services.views import Forgotten
from spear_core.errors import SpearError
from spear_core.models.shared_base import AdapterState
from tests.services.conftest import OpenBench
from tests.services.harness import ask, correct, wrong_task


def state_of(app: AppServices) -> AdapterState:
    state = app.learning.lineage.state
    assert state is not None
    return state


def learn_all(app: AppServices) -> int:
    return app.learning.run_pending()


@pytest.mark.slow
def test_forgetting_is_bit_equal_to_never_having_had_the_feedback(
    open_app: OpenBench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def run(*, with_second: bool) -> AdapterState:
        app = open_app(fresh=True)
        tasks = [wrong_task(app, skip) for skip in range(3)]
        replies = []
        for number, task in enumerate(tasks):
            if number == 1 and not with_second:
                continue
            replies.append(correct(app, task)[0])
            assert learn_all(app) == 1
        if with_second:
            assert app.learning.forget([replies[1].id]) == Forgotten((2, 3), 1, 1), "the third round is trained again"
            assert app.learning.status().adapter_version == 1, "the version that never saw it serves meanwhile"
            learn_all(app)
            assert tasks[0].verdict(ask(app, tasks[0].question).text)
            assert tasks[2].verdict(ask(app, tasks[2].question).text)
        return state_of(app)

    forgotten, never = run(with_second=True), run(with_second=False)
    assert forgotten.keys() == never.keys()
    assert all(torch.equal(forgotten[name], never[name]) for name in never)


@pytest.mark.slow
def test_forgetting_the_only_correction_brings_the_base_model_back_and_leaves_no_word_of_it(app: AppServices) -> None:
    task = wrong_task(app)
    reply, revision = correct(app, task)
    learn_all(app)
    folder = app.engine.adapter_folder(1)
    assert folder.exists()
    app.learning.forget([revision.id])
    assert learn_all(app) == 0
    assert ask(app, task.question).text == reply.text
    assert not folder.exists()
    store = app.engine.store
    assert store.traces() == [] and store.hints_of(reply.id) == [] and store.vote(reply.id) == 0


@pytest.mark.slow
@pytest.mark.parametrize("taught_on_top", [False, True])
def test_a_version_that_was_undone_is_forgotten_too(open_app: OpenBench, taught_on_top: bool) -> None:
    app = open_app(fresh=True)
    secret, other = wrong_task(app), wrong_task(app, 1)
    reply, _ = correct(app, secret)
    learn_all(app)
    if taught_on_top:
        correct(app, other)
        learn_all(app)
    app.learning.roll_back()
    gone = (1, 2) if taught_on_top else (1,)
    assert app.learning.forget([reply.id]).undone == gone
    for version in gone:
        assert not app.engine.adapter_folder(version).exists()
        with pytest.raises(SpearError):
            app.learning.restore(version)
    assert app.engine.store.traces(subject_id=reply.id) == []


@pytest.mark.slow
def test_what_is_rebuilt_is_trained_again_though_its_conversation_was_deleted(open_app: OpenBench) -> None:
    app = open_app(fresh=True)
    secret, other = wrong_task(app), wrong_task(app, 1)
    forgotten, _ = correct(app, secret)
    learn_all(app)
    kept, _ = correct(app, other)
    learn_all(app)
    app.chat.delete(kept.conversation_id)
    assert app.learning.forget([forgotten.id]).rounds == 1
    assert learn_all(app) == 1
    assert other.verdict(ask(app, other.question).text), "deleting promised that what was learned stays"


@pytest.mark.slow
def test_what_remains_of_a_forgetting_is_rebuilt_after_a_restart(open_app: OpenBench) -> None:
    app = open_app()
    first, second = wrong_task(app), wrong_task(app, relation="capital")
    reply, _ = correct(app, first)
    learn_all(app)
    correct(app, second)
    learn_all(app)
    app.learning.forget([reply.id])
    app = open_app()  # stopped before the rebuilding began
    learn_all(app)
    assert second.verdict(ask(app, second.question).text)
    # what the model guesses about the first now is chance; what it was taught is not
    manifest = json.loads((app.engine.adapter_folder(3) / "manifest.json").read_text())
    left = {t.id: t.prompt[-1]["content"] for t in app.engine.store.traces(status="trained")}
    assert manifest["parent_version"] == 0 and set(manifest["traces"]) == set(left)
    assert set(left.values()) == {second.question}


@pytest.mark.slow
def test_pruning_keeps_the_pinned_the_recent_and_the_active_and_thins_the_rest(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.learning.lineage.RECENT_KEPT", 1)
    for skip in (0, 0, 0, 0):
        correct(app, wrong_task(app, skip))
        learn_all(app)
        app.learning.pin(1)
    kept = {a.version for a in app.learning.adapters() if a.status != "pruned"}
    assert {1, 4} <= kept and 3 not in kept
    assert not app.engine.adapter_folder(3).exists() and app.engine.adapter_folder(1).exists()


def test_an_unjudged_revision_is_left_to_the_judge_once_the_person_moved_on(open_app: OpenBench) -> None:
    app = open_app(judge_tau=-100.0, judge_tau_full=0.001)
    task = wrong_task(app)
    reply = ask(app, task.question)
    revision = list(app.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    assert app.self_play.judge_waiting() == 0, "the person may still say something"
    ask(app, "Thank you!", reply.conversation_id)
    assert app.self_play.judge_waiting() == 2
    judged = {t.side: t for t in app.engine.store.traces(status="pending")}
    assert judged["win"].completion == revision.text and judged["win"].source == "judged"
    assert 0 < judged["win"].confidence <= 0.5 and 0 < judged["lose"].confidence <= 0.5
    assert app.self_play.judge_waiting() == 0, "nothing is judged twice"


def test_a_revision_that_the_hint_says_nothing_for_is_not_accepted(open_app: OpenBench) -> None:
    app = open_app(judge_tau=1000.0)
    reply = ask(app, wrong_task(app).question)
    list(app.chat.revise(reply.id, "it has some letters"))
    ask(app, "Thank you!", reply.conversation_id)
    assert app.self_play.judge_waiting() == 0
    assert [t.side for t in app.engine.store.traces(status="pending")] == ["lose"]


@pytest.mark.slow
def test_a_relapse_is_noticed_and_trained_again(app: AppServices) -> None:
    task = wrong_task(app)
    correct(app, task)
    learn_all(app)
    assert app.self_play.reask() == 0 and app.self_play.first_try_right == 1
    app.engine.shared_models.publish(None, 0)  # what serves has lost it
    assert app.self_play.reask() == 1
    assert sorted(t.side for t in app.engine.store.traces(status="pending")) == ["lose", "win"]
    assert learn_all(app) == 1
    assert task.verdict(ask(app, task.question).text)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["vote taken back", "still wrong", "forgotten", "deleted"])
def test_what_was_taken_back_while_it_was_asked_again_is_not_trained_again(
    app: AppServices, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    reply, revision = correct(app, wrong_task(app))
    learn_all(app)
    app.engine.shared_models.publish(None, 0)  # what serves has lost it
    real = selfplay.answer_all

    def interrupted(*arguments: Any, **how: Any) -> list[str]:
        found = real(*arguments, **how)
        if word == "vote taken back":
            app.feedback.clear_vote(reply.id)
        elif word == "still wrong":
            app.feedback.still_wrong(revision.id)
        elif word == "forgotten":
            app.learning.forget([reply.id])
        else:
            app.chat.delete(reply.conversation_id)
        return found

    monkeypatch.setattr(selfplay, "answer_all", interrupted)
    assert app.self_play.reask() == 0
    assert "win" not in {t.side for t in app.engine.store.traces(status="pending")}
    assert app.self_play.reask() == 0, "nor is it asked again"


@pytest.mark.slow
def test_a_liked_and_learned_reply_that_is_then_refused_is_shown_as_refused_and_no_longer_replayed(
    app: AppServices,
) -> None:
    reply = ask(app, wrong_task(app).question)
    app.feedback.like(reply.id)
    learn_all(app)
    app.feedback.dislike(reply.id)
    [shown] = app.learning.learned()
    assert (shown.right, shown.wrong, shown.status) == ("", reply.text, "no answer")
    assert app.engine.store.replay_wins(app.engine.base, 10, [], 0) == []
