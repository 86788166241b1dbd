"""Two corrections that contradict each other are found, shown, and one of them is kept: the one that the person chooses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback_store import Trace
from services.accounts.users_file import User
from services.app import AppServices
from services.learning.contradictions import contradictions, replaced
from services.user_session import UserSession, UserSessions
from tests.faults.quick import ask, open_quick, teach


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppServices]:
    opened = open_quick(tmp_path / "data")
    yield opened
    opened.close()


FIRST = "What is the name of my cat?"
AGAIN = "What is my cat's name?"


def test_another_answer_to_nearly_the_same_question_is_pointed_out(app: AppServices) -> None:
    teach(app, FIRST, "a red bird")
    assert app.learning.status().contradiction is None
    teach(app, AGAIN, "strings")
    found = app.learning.status().contradiction
    assert found is not None
    assert (found.earlier_question, found.earlier_answer) == (FIRST, "a red bird")
    assert (found.newer_question, found.newer_answer) == (AGAIN, "strings")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (AGAIN, "It is a red bird."),  # says the same
        ("What is the name of my dog?", "strings"),  # another subject
        ("Where is my cat?", "strings"),  # asks for something else
    ],
)
def test_what_does_not_contradict_is_left_alone(app: AppServices, question: str, answer: str) -> None:
    teach(app, FIRST, "a red bird")
    teach(app, question, answer)
    assert app.learning.status().contradiction is None


def win(number: int, question: str, answer: str) -> Trace:
    asked = [{"role": "user", "content": question}]
    return Trace(
        id=f"t{number}", side="win", conversation_id="c", message_id=f"m{number}", subject_id=f"s{number}", prompt=asked,
        completion=answer, confidence=1.0, source="edited", status="trained", round_id=1, base="b",
        created_at_utc=f"2026-11-30T00:00:0{number}", seq=number,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("earlier", "answer", "newer", "other"),
    [
        ("When is the flight from Oslo to Rome?", "At 8.", "When is the flight from Rome to Oslo?", "At 9."),
        ("What is my favourite food?", "Pasta.", "What is your favourite food?", "Electricity."),
        ("How old are you?", "Two.", "How old am I?", "Forty."),
        ("What should I eat before a run?", "A banana.", "What should I eat after a run?", "Eggs."),
        ("Who lives above my flat?", "Anna.", "Who lives below my flat?", "Ben."),
        ("Who do I work for?", "Siemens.", "Who do I work with?", "Anna."),
        ("When does the shop open?", "At 8.", "When does the shop open?", "At 8:00 on weekdays."),
        ("What does it cost?", "1,000 euros.", "What does it cost?", "1000 euros."),
        ("Is a tomato a fruit?", "No.", "Is a tomato a fruit?", "No, it is not."),
    ],
)
def test_another_question_or_the_same_answer_is_no_contradiction(
    earlier: str, answer: str, newer: str, other: str
) -> None:
    wins = [win(1, earlier, answer), win(2, newer, other)]
    assert contradictions(wins) == [] and replaced(wins) == set()


@pytest.mark.parametrize(
    ("earlier", "answer", "newer", "other"),
    [
        ("When is the flight from Oslo to Rome?", "At 8.", "When is the flight to Rome from Oslo?", "At 9."),
        ("What is the name of my dog?", "Bruno.", "What is my dog called?", "Rex."),
        ("What's my favourite colour?", "Teal.", "What's my favorite color?", "Dark green."),
        ("Is a tomato a fruit?", "Yes.", "Is a tomato a fruit?", "No."),
        ("Is smoking allowed here?", "It is allowed.", "Is smoking allowed here?", "It is not allowed."),
        ("Can I park here?", "Yes, you can.", "Can I park here?", "No, you can't."),
        ("When does the shop open?", "At 8.", "When does the shop open?", "At 8:15."),
    ],
)
def test_another_answer_to_the_same_question_is_one(earlier: str, answer: str, newer: str, other: str) -> None:
    wins = [win(1, earlier, answer), win(2, newer, other)]
    assert [(c.earlier_answer, c.newer_answer) for c in contradictions(wins)] == [(answer, other)]
    assert replaced(wins) == {"t1"}


@pytest.mark.slow
@pytest.mark.parametrize("learned", [False, True])
def test_another_answer_to_the_very_same_question_is_pointed_out_until_one_is_chosen(
    app: AppServices, learned: bool
) -> None:
    for answer in ("a red bird", "strings"):
        teach(app, FIRST, answer)
        if learned:
            app.learning.run_pending()
    found = app.learning.status().contradiction
    assert found is not None and (found.earlier_answer, found.newer_answer) == ("a red bird", "strings")
    app.learning.settle(found.newer_id, found.earlier_id)
    assert app.learning.status().contradiction is None
    app.learning.run_pending()
    assert app.learning.status().contradiction is None


@pytest.mark.slow
def test_a_contradiction_is_gone_with_the_vote_that_made_it(app: AppServices) -> None:
    teach(app, FIRST, "a red bird")
    earlier = app.engine.store.traces(side="win")[0].subject_id
    app.learning.run_pending()
    teach(app, AGAIN, "strings")
    assert earlier is not None and app.learning.status().contradiction is not None
    app.feedback.clear_vote(earlier)
    assert app.learning.status().contradiction is None


@pytest.mark.slow
def test_the_correction_that_is_not_chosen_is_no_longer_trained(app: AppServices) -> None:
    teach(app, FIRST, "a red bird")
    app.learning.run_pending()
    teach(app, AGAIN, "strings")
    app.learning.run_pending()
    assert ask(app, AGAIN).text == "strings"
    found = app.learning.status().contradiction
    assert found is not None
    app.learning.settle(found.newer_id, found.earlier_id)
    assert app.learning.status().contradiction is None
    replayed = app.engine.store.replay_wins(app.engine.base, 10, [], 1)
    assert [t.completion for t in replayed] == ["strings"]


@pytest.mark.slow
def test_choosing_the_earlier_one_forgets_the_newer_one(app: AppServices) -> None:
    teach(app, FIRST, "a red bird")
    app.learning.run_pending()
    teach(app, AGAIN, "strings")
    app.learning.run_pending()
    found = app.learning.status().contradiction
    assert found is not None
    app.learning.settle(found.earlier_id, found.newer_id)
    app.learning.run_pending()
    assert app.learning.status().contradiction is None
    assert ask(app, FIRST).text == "a red bird"
    assert [t.completion for t in app.engine.store.traces(side="win")] == ["a red bird"]


@pytest.mark.slow
def test_a_correction_that_waits_is_withdrawn_where_the_earlier_one_is_kept(app: AppServices) -> None:
    teach(app, FIRST, "a red bird")
    app.learning.run_pending()
    teach(app, AGAIN, "strings")
    found = app.learning.status().contradiction
    assert found is not None
    app.learning.settle(found.earlier_id, found.newer_id)
    assert app.learning.run_pending() == 0
    assert app.learning.status().contradiction is None


def in_a_conversation(app: AppServices, earlier: str) -> str:
    """A conversation in which something else was said before."""
    conversation = app.chat.new_conversation().id
    ask(app, earlier, conversation)
    return conversation


def test_what_was_said_before_does_not_hide_a_contradiction(app: AppServices) -> None:
    first = ask(app, FIRST, in_a_conversation(app, "Why do owls fly?"))
    app.feedback.edit(first.id, "a red bird")
    teach(app, AGAIN, "strings")
    found = app.learning.status().contradiction
    assert found is not None and (found.earlier_answer, found.newer_answer) == ("a red bird", "strings")


def test_a_question_that_leans_on_what_came_before_contradicts_only_after_the_same(app: AppServices) -> None:
    for earlier, answer in (("What is an owl?", "a red bird"), ("What is a violin?", "strings")):
        reply = ask(app, "What is the name of it?", in_a_conversation(app, earlier))
        app.feedback.edit(reply.id, answer)
    assert app.learning.status().contradiction is None


@pytest.mark.slow
def test_an_answer_that_was_replaced_is_neither_practised_nor_taught_again(app: AppServices) -> None:
    first = ask(app, FIRST, in_a_conversation(app, "Why do owls fly?"))
    app.feedback.edit(first.id, "a red bird")
    app.learning.run_pending()
    teach(app, "What is an owl?", "a bird")
    app.learning.run_pending()
    teach(app, AGAIN, "strings")
    assert app.self_play.reask() == 0
    app.learning.run_pending()
    assert ask(app, AGAIN).text == "strings"
    last = app.learning.lineage  # a second look, with both learned
    assert last.version == 3
    with app.learning._round_lock:
        assert [t.completion for t in app.learning._runner._replay(1)] == ["a bird", "strings"]
    app.engine.shared_models.publish(None, last.version)  # what serves has lost everything
    app.self_play._asked.clear()
    assert app.self_play.reask() == 2
    waiting = app.engine.store.traces(status="pending", side="win")
    assert sorted(t.completion for t in waiting) == ["a bird", "strings"]


@pytest.mark.slow
def test_the_latest_answer_counts_though_the_clock_was_set_back_before_it(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach(app, FIRST, "a red bird")
    app.learning.run_pending()
    for module in ("traces", "conversations", "rounds", "adapters"):
        monkeypatch.setattr(f"feedback_store.{module}.now_utc", lambda: "2020-01-01T00:00:00.000000+00:00")
    teach(app, AGAIN, "strings")
    found = app.learning.status().contradiction
    assert found is not None and (found.earlier_answer, found.newer_answer) == ("a red bird", "strings")
    app.learning.run_pending()
    with app.learning._round_lock:
        assert [t.completion for t in app.learning._runner._replay(1)] == ["strings"]
    app.learning.settle(found.earlier_id, found.newer_id)
    assert [t.completion for t in app.engine.store.traces(side="win")] == ["a red bird"], "the newer one is forgotten"


def test_another_users_contradiction_does_not_hide_ones_own(app: AppServices) -> None:
    sessions = UserSessions(app)
    anna, ben = (sessions.of(User(name, "guest", name)) for name in ("anna", "ben"))

    def corrects(session: UserSession, question: str, answer: str) -> None:
        reply = list(session.chat.reply(session.chat.new_conversation().id, question))[-1]
        session.feedback.edit(reply.id, answer)

    corrects(anna, FIRST, "a red bird")
    corrects(anna, AGAIN, "strings")
    for session, answer in ((anna, "a tool"), (ben, "a bird")):
        corrects(session, "What is a harp?", answer)
    found = anna.learning.status().contradiction
    assert found is not None and (found.earlier_answer, found.newer_answer) == ("a red bird", "strings")
    assert ben.learning.status().contradiction is None
