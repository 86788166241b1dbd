"""One answer that cannot be learned, among others that can: the others are learned.

What becomes of the traces, not whether the model learns: two steps a round, and the gate lets everything pass.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from feedback_store import NewTrace
from services.app import AppServices
from services.data.feedback_import import import_file
from services.learning import round_runner as learning
from spear_core.training.gate import GateVerdict
from spear_core.training.round import Learner, RoundResult
from tests.services.conftest import OpenBench
from tests.services.harness import ask

BAD = "Say something."


@pytest.fixture
def app(open_app: OpenBench) -> AppServices:
    return open_app(max_steps=2, settle_steps=0, gate_enabled=False)


def taught(app: AppServices, *answers: str) -> list[str]:
    """Import three corrections and one for BAD. Returns the questions of the former."""
    questions = [f"What is the capital of {land}?" for land in ("Norway", "Peru", "Kenya")]
    said = [*zip(questions, ("Oslo", "Lima", "Nairobi"), strict=True), *((BAD, answer) for answer in answers)]
    rows = [{"prompt": q, "chosen": right, "rejected": "I do not know."} for q, right in said]
    import_file(app.engine.store, "preference", "\n".join(map(json.dumps, rows)).encode(), app.engine.base)
    return questions


def statuses(app: AppServices) -> dict[str, str]:
    return {t.prompt[-1]["content"]: t.status for t in app.engine.store.traces(side="win")}


def is_among(wins: Any) -> bool:
    return any(trace.prompt[-1]["content"] == BAD for trace in wins)


@pytest.mark.slow
def test_one_that_the_gate_refuses_does_not_cost_the_others(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = taught(app, "No.")
    run_round = Learner.run_round

    def refusing(self: Learner, current: Any, wins: Any, *args: Any, **more: Any) -> RoundResult:
        result = run_round(self, current, wins, *args, **more)
        return replace(result, verdict=GateVerdict(False, "Not kept: no."), state=None) if is_among(wins) else result

    monkeypatch.setattr(Learner, "run_round", refusing)
    app.learning.run_pending()
    assert statuses(app) == {**dict.fromkeys(questions, "trained"), BAD: "skipped"}
    assert app.learning.run_pending() == 0 and app.engine.store.count_pending(app.engine.base) == (0, 0)


@pytest.mark.slow
def test_one_whose_training_breaks_does_not_cost_the_others(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = taught(app, "No.")
    run_round = Learner.run_round

    def breaking(self: Learner, current: Any, wins: Any, *args: Any, **more: Any) -> RoundResult:
        if is_among(wins):
            raise RuntimeError("it broke")
        return run_round(self, current, wins, *args, **more)

    monkeypatch.setattr(Learner, "run_round", breaking)
    app.learning.run_pending()
    assert statuses(app) == {**dict.fromkeys(questions, "trained"), BAD: "skipped"}


@pytest.mark.slow
def test_an_empty_answer_of_an_earlier_version_teaches_nothing(app: AppServices) -> None:
    store, base = app.engine.store, app.engine.base
    reply = ask(app, BAD)
    prompt = [{"role": "user", "content": BAD}]
    store.add_traces([NewTrace("win", reply.conversation_id, reply.id, reply.id, prompt, " ", 1.0, "liked", base)])
    assert app.learning.run_pending() == 1 and statuses(app) == {BAD: "skipped"}
    store.add_traces([NewTrace("win", reply.conversation_id, reply.id, reply.id, prompt, " ", 1.0, "liked", base)])
    questions = taught(app)
    app.learning.run_pending()
    assert statuses(app) == {**dict.fromkeys(questions, "trained"), BAD: "skipped"}


@pytest.mark.slow
def test_one_that_cannot_be_encoded_does_not_cost_the_others(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = taught(app, "No.")
    to_core = learning.training_trace

    def refusing(trace: Any) -> Any:
        if trace.prompt[-1]["content"] == BAD:
            raise ValueError("a prompt ends with a message of the user")
        return to_core(trace)

    monkeypatch.setattr(learning, "training_trace", refusing)
    app.learning.run_pending()
    assert statuses(app) == {**dict.fromkeys(questions, "trained"), BAD: "skipped"}


@pytest.mark.slow
def test_an_older_word_on_the_same_question_is_not_learned_after_the_newer_one(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = taught(app, "Yes.", "No.")
    run_round, seen = Learner.run_round, []

    def refusing(self: Learner, current: Any, wins: Any, *args: Any, **more: Any) -> RoundResult:
        seen.extend(trace.completion for trace in wins if trace.prompt[-1]["content"] == BAD)
        result = run_round(self, current, wins, *args, **more)
        return replace(result, verdict=GateVerdict(False, "Not kept: no."), state=None) if len(wins) > 2 else result

    monkeypatch.setattr(Learner, "run_round", refusing)
    app.learning.run_pending()
    assert set(seen) == {"No."} and statuses(app)[questions[0]] == "trained"
