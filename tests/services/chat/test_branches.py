"""Branches of a conversation: asked again, changed and sent again, chosen; and what the model is told in each."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from feedback_store import Store
from services.app import AppServices
from services.chat.sampling import Sampling
from spear_core.errors import SpearError
from tests.services.harness import ask

OWL, SKY, FRANCE = "What kind of thing is an owl?", "What colour is the sky?", "What is the capital of France?"


def shown(app: AppServices, conversation_id: str) -> list[str]:
    return [m.text for m in app.chat.messages(conversation_id)]


def test_a_changed_question_begins_a_branch_and_the_old_one_stays(app: AppServices) -> None:
    first = ask(app, OWL)
    here = first.conversation_id
    second = ask(app, SKY, here)
    question = app.chat.messages(here)[2]
    third = list(app.chat.resend(question.id, FRANCE))[-1]
    assert shown(app, here) == [OWL, first.text, FRANCE, third.text]
    changed = app.chat.messages(here)[2]
    assert changed.versions == (question.id, changed.id)
    assert [m["content"] for m in app.chat.prompt_of(third.id)] == [OWL, first.text, FRANCE]

    app.chat.choose(question.id)
    assert shown(app, here) == [OWL, first.text, SKY, second.text]
    ask(app, OWL, here)
    assert shown(app, here)[:4] == [OWL, first.text, SKY, second.text], "the talk goes on in the chosen branch"
    app.chat.choose(changed.id)
    assert shown(app, here) == [OWL, first.text, FRANCE, third.text]


def test_an_answer_asked_for_again_is_another_version_with_votes_of_its_own(app: AppServices) -> None:
    first = ask(app, OWL)
    again = list(app.chat.regenerate(first.id))[-1]
    app.feedback.like(again.id)
    (_, reply) = app.chat.messages(first.conversation_id)
    assert (reply.id, reply.vote, reply.versions) == (again.id, 1, (first.id, again.id))
    app.chat.choose(first.id)
    assert app.chat.messages(first.conversation_id)[1].vote == 0
    app.feedback.edit(first.id, "An owl is a bird of the night.")
    followed = ask(app, SKY, first.conversation_id)
    said = [m["content"] for m in app.chat.prompt_of(followed.id)]
    assert said == [OWL, "An owl is a bird of the night.", SKY]


def test_a_system_prompt_holds_from_the_next_question_on_and_is_in_what_is_learned(app: AppServices) -> None:
    conversation = app.chat.new_conversation()
    before = ask(app, OWL, conversation.id)
    app.chat.set_system_prompt(conversation.id, "Answer in one word.")
    after = ask(app, SKY, conversation.id)
    assert app.chat.prompt_of(before.id)[0]["role"] == "user"
    assert app.chat.prompt_of(after.id)[0] == {"role": "system", "content": "Answer in one word."}
    app.feedback.like(after.id)
    (trace,) = app.engine.store.traces(subject_id=after.id)
    assert trace.prompt[0]["content"] == "Answer in one word."


def test_sampling_is_kept_with_the_conversation_and_checked(app: AppServices) -> None:
    conversation = app.chat.new_conversation()
    app.chat.set_sampling(conversation.id, Sampling(temperature=0.5, max_new_tokens=1))
    assert app.chat.sampling(conversation.id) == Sampling(0.5, 0.95, 1)
    assert len(ask(app, OWL, conversation.id).text.split()) <= 1
    with pytest.raises(SpearError, match="temperature"):
        Sampling(temperature=3)


def test_search_finds_titles_and_words_and_takes_wildcards_as_text(app: AppServices) -> None:
    owl, sky = ask(app, OWL).conversation_id, ask(app, SKY).conversation_id
    app.chat.rename(owl, "Birds, 100 %")
    assert [c.id for c in app.chat.conversations("birds")] == [owl]
    assert [c.id for c in app.chat.conversations("colour")] == [sky]
    assert [c.id for c in app.chat.conversations("0 %")] == [owl]
    assert [c.id for c in app.chat.conversations("_")] == []


@pytest.mark.slow
def test_a_prompt_is_answered_by_any_two_versions(app: AppServices) -> None:
    reply = ask(app, OWL)
    app.feedback.edit(reply.id, "It is a lamp.")
    app.learning.run_pending()
    before, after = app.comparison.answers(OWL, [0, 1])
    assert (before.text, after.text) == (reply.text, "It is a lamp.")
    app.learning.roll_back()
    assert app.comparison.answers(app.chat.prompt_of(reply.id), [1])[0].text == "It is a lamp."


def test_conversations_of_before_branches_stay_one_line(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with Store(path) as store:
        here = store.create_conversation()
        for text in (OWL, SKY):
            asked = store.add_message(here.id, "user", text)
            store.add_message(here.id, "assistant", "Yes.", parent_id=asked.id)
    with sqlite3.connect(path) as raw:  # as the file was before
        raw.execute("DROP TABLE conversation_choices")
        raw.execute("DELETE FROM _sqlite_migrations WHERE name = 'm006_branches'")
    with Store(path) as store:
        first, reply, second, _ = store.messages(here.id)
        assert (first.parent_id, second.parent_id) == (None, reply.id)
