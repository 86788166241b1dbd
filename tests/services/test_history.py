"""Forget, pin, prune and self-play, on the real pocket model."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from services import selfplay
from services.workbench import Workbench
from spear_core.twins import AdapterState
from tests.services.bench_desk import ask, correct, wrong_task
from tests.services.conftest import OpenBench


def state_of(bench: Workbench) -> AdapterState:
    state = bench.learning.lineage.state
    assert state is not None
    return state


def learn_all(bench: Workbench) -> int:
    return bench.learning.run_pending()


def test_forgetting_is_bit_equal_to_never_having_had_the_feedback(
    open_bench: OpenBench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def run(*, with_second: bool) -> AdapterState:
        bench = open_bench(fresh=True)
        tasks = [wrong_task(bench, skip) for skip in range(3)]
        replies = []
        for number, task in enumerate(tasks):
            if number == 1 and not with_second:
                continue
            replies.append(correct(bench, task)[0])
            assert learn_all(bench) == 1
        if with_second:
            assert bench.learning.forget([replies[1].id]) == 1, "the third round is trained anew"
            assert bench.learning.status().adapter_version == 1, "the version that never saw it serves meanwhile"
            learn_all(bench)
            assert tasks[0].verdict(ask(bench, tasks[0].question).text)
            assert tasks[2].verdict(ask(bench, tasks[2].question).text)
        return state_of(bench)

    forgotten, never = run(with_second=True), run(with_second=False)
    assert forgotten.keys() == never.keys()
    assert all(torch.equal(forgotten[name], never[name]) for name in never)


def test_forgetting_the_only_correction_brings_the_base_model_back_and_leaves_no_word_of_it(bench: Workbench) -> None:
    task = wrong_task(bench)
    reply, revision = correct(bench, task)
    learn_all(bench)
    folder = bench.engine.adapter_folder(1)
    assert folder.exists()
    bench.learning.forget([revision.id])
    assert learn_all(bench) == 0
    assert ask(bench, task.question).text == reply.text
    assert not folder.exists()
    store = bench.engine.store
    assert store.traces() == [] and store.hints_of(reply.id) == [] and store.vote(reply.id) == 0


def test_what_remains_of_a_forgetting_is_rebuilt_after_a_restart(open_bench: OpenBench) -> None:
    bench = open_bench()
    first, second = wrong_task(bench), wrong_task(bench, relation="capital")
    reply, _ = correct(bench, first)
    learn_all(bench)
    correct(bench, second)
    learn_all(bench)
    bench.learning.forget([reply.id])
    bench = open_bench()  # stopped before the rebuilding began
    learn_all(bench)
    assert second.verdict(ask(bench, second.question).text)
    # what the model guesses about the first now is chance; what it was taught is not
    manifest = json.loads((bench.engine.adapter_folder(3) / "manifest.json").read_text())
    left = {t.id: t.prompt[-1]["content"] for t in bench.engine.store.traces(status="trained")}
    assert manifest["parent_version"] == 0 and set(manifest["traces"]) == set(left)
    assert set(left.values()) == {second.question}


def test_pruning_keeps_the_pinned_the_recent_and_the_active_and_thins_the_rest(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.lineage.RECENT_KEPT", 1)
    for skip in (0, 0, 0, 0):
        correct(bench, wrong_task(bench, skip))
        learn_all(bench)
        bench.learning.pin(1)
    kept = {a.version for a in bench.learning.adapters() if a.status != "pruned"}
    assert {1, 4} <= kept and 3 not in kept
    assert not bench.engine.adapter_folder(3).exists() and bench.engine.adapter_folder(1).exists()


def test_an_unjudged_revision_is_left_to_the_judge_once_the_person_moved_on(open_bench: OpenBench) -> None:
    bench = open_bench(judge_tau=-100.0, judge_tau_full=0.001)
    task = wrong_task(bench)
    reply = ask(bench, task.question)
    revision = list(bench.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    assert bench.self_play.judge_waiting() == 0, "the person may still say something"
    ask(bench, "Thank you!", reply.conversation_id)
    assert bench.self_play.judge_waiting() == 2
    judged = {t.side: t for t in bench.engine.store.traces(status="pending")}
    assert judged["win"].completion == revision.text and judged["win"].source == "judged"
    assert 0 < judged["win"].confidence <= 0.5 and 0 < judged["lose"].confidence <= 0.5
    assert bench.self_play.judge_waiting() == 0, "nothing is judged twice"


def test_a_revision_that_the_hint_says_nothing_for_is_not_accepted(open_bench: OpenBench) -> None:
    bench = open_bench(judge_tau=1000.0)
    reply = ask(bench, wrong_task(bench).question)
    list(bench.chat.revise(reply.id, "it has some letters"))
    ask(bench, "Thank you!", reply.conversation_id)
    assert bench.self_play.judge_waiting() == 0
    assert [t.side for t in bench.engine.store.traces(status="pending")] == ["lose"]


def test_a_relapse_is_noticed_and_trained_again(bench: Workbench) -> None:
    task = wrong_task(bench)
    correct(bench, task)
    learn_all(bench)
    assert bench.self_play.reask() == 0 and bench.self_play.first_try_right == 1
    bench.engine.twins.publish(None, 0)  # what serves has lost it
    assert bench.self_play.reask() == 1
    assert sorted(t.side for t in bench.engine.store.traces(status="pending")) == ["lose", "win"]
    assert learn_all(bench) == 1
    assert task.verdict(ask(bench, task.question).text)


@pytest.mark.parametrize("word", ["vote taken back", "still wrong", "forgotten", "deleted"])
def test_what_was_taken_back_while_it_was_asked_again_is_not_trained_again(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    reply, revision = correct(bench, wrong_task(bench))
    learn_all(bench)
    bench.engine.twins.publish(None, 0)  # what serves has lost it
    real = selfplay.answer_all

    def interrupted(*arguments: Any, **how: Any) -> list[str]:
        found = real(*arguments, **how)
        if word == "vote taken back":
            bench.feedback.clear_vote(reply.id)
        elif word == "still wrong":
            bench.feedback.still_wrong(revision.id)
        elif word == "forgotten":
            bench.learning.forget([reply.id])
        else:
            bench.chat.delete(reply.conversation_id)
        return found

    monkeypatch.setattr(selfplay, "answer_all", interrupted)
    assert bench.self_play.reask() == 0
    assert "win" not in {t.side for t in bench.engine.store.traces(status="pending")}
    assert bench.self_play.reask() == 0, "nor is it asked again"


def test_a_liked_and_learned_reply_that_is_then_refused_is_shown_as_refused_and_no_longer_replayed(
    bench: Workbench,
) -> None:
    reply = ask(bench, wrong_task(bench).question)
    bench.feedback.like(reply.id)
    learn_all(bench)
    bench.feedback.dislike(reply.id)
    [shown] = bench.learning.learned()
    assert (shown.right, shown.wrong, shown.status) == ("", reply.text, "waiting")
    assert bench.engine.store.replay_wins(bench.engine.base, 10, [], 0) == []
