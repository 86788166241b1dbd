"""Branches of a conversation: asked again, changed and sent again, chosen; and what the model is told in each."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from feedback_store import Store
from services.replies import Sampling
from services.workbench import Workbench
from spear_core.errors import SpearError
from tests.services.bench_desk import ask

OWL, SKY, FRANCE = "What kind of thing is an owl?", "What colour is the sky?", "What is the capital of France?"


def shown(bench: Workbench, conversation_id: str) -> list[str]:
    return [m.text for m in bench.chat.messages(conversation_id)]


def test_a_changed_question_begins_a_branch_and_the_old_one_stays(bench: Workbench) -> None:
    first = ask(bench, OWL)
    here = first.conversation_id
    second = ask(bench, SKY, here)
    question = bench.chat.messages(here)[2]
    third = list(bench.chat.resend(question.id, FRANCE))[-1]
    assert shown(bench, here) == [OWL, first.text, FRANCE, third.text]
    changed = bench.chat.messages(here)[2]
    assert changed.versions == (question.id, changed.id)
    assert [m["content"] for m in bench.chat.prompt_of(third.id)] == [OWL, first.text, FRANCE]

    bench.chat.choose(question.id)
    assert shown(bench, here) == [OWL, first.text, SKY, second.text]
    ask(bench, OWL, here)
    assert shown(bench, here)[:4] == [OWL, first.text, SKY, second.text], "the talk goes on in the chosen branch"
    bench.chat.choose(changed.id)
    assert shown(bench, here) == [OWL, first.text, FRANCE, third.text]


def test_an_answer_asked_for_again_is_another_version_with_votes_of_its_own(bench: Workbench) -> None:
    first = ask(bench, OWL)
    again = list(bench.chat.regenerate(first.id))[-1]
    bench.feedback.like(again.id)
    (_, reply) = bench.chat.messages(first.conversation_id)
    assert (reply.id, reply.vote, reply.versions) == (again.id, 1, (first.id, again.id))
    bench.chat.choose(first.id)
    assert bench.chat.messages(first.conversation_id)[1].vote == 0
    bench.feedback.edit(first.id, "An owl is a bird of the night.")
    followed = ask(bench, SKY, first.conversation_id)
    said = [m["content"] for m in bench.chat.prompt_of(followed.id)]
    assert said == [OWL, "An owl is a bird of the night.", SKY]


def test_a_system_prompt_holds_from_the_next_question_on_and_is_in_what_is_learned(bench: Workbench) -> None:
    conversation = bench.chat.new_conversation()
    before = ask(bench, OWL, conversation.id)
    bench.chat.set_system_prompt(conversation.id, "Answer in one word.")
    after = ask(bench, SKY, conversation.id)
    assert bench.chat.prompt_of(before.id)[0]["role"] == "user"
    assert bench.chat.prompt_of(after.id)[0] == {"role": "system", "content": "Answer in one word."}
    bench.feedback.like(after.id)
    (trace,) = bench.engine.store.traces(subject_id=after.id)
    assert trace.prompt[0]["content"] == "Answer in one word."


def test_sampling_is_kept_with_the_conversation_and_checked(bench: Workbench) -> None:
    conversation = bench.chat.new_conversation()
    bench.chat.set_sampling(conversation.id, Sampling(temperature=0.5, max_new_tokens=1))
    assert bench.chat.sampling(conversation.id) == Sampling(0.5, 0.95, 1)
    assert len(ask(bench, OWL, conversation.id).text.split()) <= 1
    with pytest.raises(SpearError, match="temperature"):
        Sampling(temperature=3)


def test_search_finds_titles_and_words_and_takes_wildcards_as_text(bench: Workbench) -> None:
    owl, sky = ask(bench, OWL).conversation_id, ask(bench, SKY).conversation_id
    bench.chat.rename(owl, "Birds, 100 %")
    assert [c.id for c in bench.chat.conversations("birds")] == [owl]
    assert [c.id for c in bench.chat.conversations("colour")] == [sky]
    assert [c.id for c in bench.chat.conversations("0 %")] == [owl]
    assert [c.id for c in bench.chat.conversations("_")] == []


def test_a_prompt_is_answered_by_any_two_versions(bench: Workbench) -> None:
    reply = ask(bench, OWL)
    bench.feedback.edit(reply.id, "It is a lamp.")
    bench.learning.run_pending()
    before, after = bench.comparison.answers(OWL, [0, 1])
    assert (before.text, after.text) == (reply.text, "It is a lamp.")
    bench.learning.roll_back()
    assert bench.comparison.answers(bench.chat.prompt_of(reply.id), [1])[0].text == "It is a lamp."


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
