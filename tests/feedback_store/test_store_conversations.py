"""Conversations, messages, votes, hints, verdicts, the event log and the choice of anchors."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from feedback_store import Store, StoreError, UnknownRecord
from tests.feedback_store.harness import StoreHarness

# As a list: an alphabet that merges both would hardly ever draw a surrogate
ANY_TEXT = st.lists(st.characters() | st.sampled_from("\x00\ud800\udfff\n'\""), max_size=40).map("".join)


def test_conversations_come_newest_first_and_can_be_renamed(store: Store) -> None:
    first, second = store.create_conversation("one"), store.create_conversation("two", learn=False)
    assert store.rename_conversation(first.id, "uno").title == "uno"
    assert [(c.id, c.title, c.learn) for c in store.conversations()] == [
        (second.id, "two", False),
        (first.id, "uno", True),
    ]
    assert [c.id for c in store.conversations(limit=1)] == [second.id]
    assert [c.id for c in store.conversations(after=second.id)] == [first.id]
    assert store.conversations(after=first.id) == []
    with pytest.raises(UnknownRecord):
        store.conversations(after="none")
    assert store.set_learn(second.id, True).learn is True
    assert re.fullmatch(r"[0-9a-f]{32}", first.id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", first.created_at_utc)


def test_messages_get_the_next_position_of_their_own_conversation(store: Store, harness: StoreHarness) -> None:
    talk, other = harness.talk(), harness.talk()
    again = store.add_message(talk.conversation_id, "user", "And of Italy?")
    assert [m.position for m in store.messages(talk.conversation_id)] == [0, 1, 2]
    assert [m.position for m in store.messages(other.conversation_id)] == [0, 1]
    assert store.message(again.id) == again


def test_a_streaming_reply_is_updated_in_place(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    reply = store.add_message(
        talk.conversation_id, "assistant", "", parent_id=talk.question.id, complete=False, message_id="f" * 32
    )
    assert (reply.id, reply.complete) == ("f" * 32, False)
    store.update_message(reply.id, text="Par")
    done = store.update_message(reply.id, text="Paris", complete=True, adapter_version=3)
    assert (done.text, done.complete, done.adapter_version, done.position) == ("Paris", True, 3, 2)
    assert store.update_message(reply.id, complete=False).text == "Paris"


def test_revisions_and_edits_hang_on_the_first_reply(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    refs = {"parent_id": talk.question.id, "revises_id": talk.reply.id}
    revision = store.add_message(
        talk.conversation_id, "assistant", "Paris", kind="revision", hint="starts with P", **refs
    )
    edit = store.add_message(talk.conversation_id, "assistant", "Paris!", kind="edit", **refs)
    assert store.revisions_of(talk.reply.id) == [revision, edit]
    assert revision.hint == "starts with P"
    assert [(e.kind, e.message_id) for e in store.events()] == [("edit", edit.id)]


def test_what_is_not_in_the_store_is_named_unknown(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    calls = [
        lambda: store.message("nobody"),
        lambda: store.conversation("nobody"),
        lambda: store.rename_conversation("nobody", "x"),
        lambda: store.set_learn("nobody", False),
        lambda: store.delete_conversation("nobody"),
        lambda: store.add_message("nobody", "user", "x"),
        lambda: store.add_message(talk.conversation_id, "user", "x", parent_id="nobody"),
        lambda: store.update_message("nobody", text="x"),
        lambda: store.set_vote("nobody", 1),
        lambda: store.set_verdict("nobody", "better"),
        lambda: store.add_hint("nobody", "x"),
        lambda: store.add_event("custom", "nobody", {}),
    ]
    for call in calls:
        with pytest.raises(UnknownRecord):
            call()
    assert store.events() == [] and len(store.messages(talk.conversation_id)) == 2


def test_impossible_values_are_refused(store: Store, harness: StoreHarness) -> None:
    talk, other = harness.talk(), harness.talk()
    calls = [
        lambda: store.set_vote(talk.reply.id, 2),
        lambda: store.set_verdict(talk.reply.id, "great"),
        lambda: store.add_message(talk.conversation_id, "robot", "x"),
        lambda: store.add_message(talk.conversation_id, "user", "x", kind="note"),
        lambda: store.add_message(talk.conversation_id, "assistant", "x", parent_id=other.question.id),
        lambda: store.add_message(talk.conversation_id, "assistant", "x", message_id=talk.reply.id),
    ]
    for call in calls:
        with pytest.raises(StoreError):
            call()
    assert store.votes(talk.conversation_id) == {} and len(store.messages(talk.conversation_id)) == 2


def test_voting_twice_is_voting_once(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    changes = [store.set_vote(talk.reply.id, value) for value in (0, -1, -1, 1, 1, 0, 0)]
    assert changes == [False, True, False, True, False, True, False]
    assert [e.data["value"] for e in store.events()] == [-1, 1, 0]
    store.set_vote(talk.reply.id, -1)
    assert store.vote(talk.reply.id) == -1 and store.vote(talk.question.id) == 0
    assert store.votes(talk.conversation_id) == {talk.reply.id: -1}


def test_votes_hints_and_verdicts_are_logged_in_order(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    store.set_vote(talk.reply.id, -1)
    store.add_hint(talk.reply.id, "not Lyon")
    store.add_hint(talk.reply.id, "starts with P")
    assert [store.set_verdict(talk.reply.id, v) for v in ("better", "better", None)] == [True, False, True]
    assert [h.text for h in store.hints_of(talk.reply.id)] == ["not Lyon", "starts with P"]
    assert store.message(talk.reply.id).verdict is None
    log = store.events()
    assert [(e.kind, *e.data.values()) for e in log] == [
        ("vote", -1),
        ("hint", "not Lyon"),
        ("hint", "starts with P"),
        ("verdict", "better"),
        ("verdict", None),
    ]
    assert store.events(since=log[2].id) == log[3:]


def test_deleting_a_conversation_takes_its_words_and_leaves_trained_traces_listed(
    store: Store, harness: StoreHarness
) -> None:
    talk, other = harness.talk(), harness.talk()
    talk.add("win")
    harness.promoted()
    talk.add("win", "lose")
    [kept] = other.add("win")
    store.set_vote(talk.reply.id, -1)
    store.set_vote(other.reply.id, 1)
    store.add_hint(talk.reply.id, "a secret")
    store.delete_conversation(talk.conversation_id)
    assert [c.id for c in store.conversations()] == [other.conversation_id]
    assert store.messages(talk.conversation_id) == [] and store.vote(talk.reply.id) == 0
    assert store.hints_of(talk.reply.id) == []
    assert not any("secret" in str(e.data) for e in store.events())
    assert store.vote(other.reply.id) == 1
    assert harness.statuses() == ["trained", "pending"]
    gone = store.traces(status="trained")[0]
    assert (gone.conversation_id, gone.message_id, gone.subject_id) == (None, None, None)
    assert store.count_pending(kept.base) == (1, 0)


def test_a_deleted_conversation_never_trains_again(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    talk.add("win")
    adapter = harness.promoted()
    store.delete_conversation(talk.conversation_id)
    assert store.replay_wins(adapter.base, 10, [], 0) == []
    store.roll_back(adapter.base)
    assert store.claim_round(adapter.base, 0) is None


def test_what_was_never_trained_goes_with_its_conversation(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk("a secret word")
    talk.add("win")
    store.withdraw_traces(talk.reply.id)
    talk.add("lose")
    store.delete_conversation(talk.conversation_id)
    assert store.traces() == []


def test_only_unobjected_first_replies_of_the_bare_model_are_anchors(store: Store, harness: StoreHarness) -> None:
    good = harness.talk("good")
    store.set_vote(harness.talk("voted down").reply.id, -1)
    store.set_vote(harness.talk("objected elsewhere").reply.id, -1)
    harness.talk("objected elsewhere")
    harness.talk("by an adapter", version=2)
    harness.talk("private", learn=False)
    store.update_message(harness.talk("unfinished").reply.id, complete=False)
    revised = harness.talk("revised")
    store.add_message(
        revised.conversation_id,
        "assistant",
        "x",
        kind="revision",
        parent_id=revised.question.id,
        revises_id=revised.reply.id,
    )
    second = store.add_message(good.conversation_id, "user", "second turn")
    store.add_message(good.conversation_id, "assistant", "x", parent_id=second.id)
    store.add_message(good.conversation_id, "assistant", "another", parent_id=good.question.id)
    liked = harness.talk("liked")
    store.set_vote(liked.reply.id, 1)
    found = store.unobjected_replies(10, rng_seed=1)
    assert sorted((u.text, r.id) for u, r in found) == [("good", good.reply.id), ("liked", liked.reply.id)]


def test_the_choice_of_anchors_follows_the_seed(store: Store, harness: StoreHarness) -> None:
    for i in range(12):
        harness.talk(f"question {i}")

    def texts(seed: int) -> list[str]:
        return [user.text for user, _ in store.unobjected_replies(5, seed)]

    assert texts(1) == texts(1) and len(set(texts(1))) == 5
    assert texts(1) != texts(2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT)
@example(text="\ud83d\ude00 \udfff \x00 end")
def test_any_text_comes_back_as_it_was_but_for_lone_surrogates(store: Store, harness: StoreHarness, text: str) -> None:
    expected = re.sub("[\ud800-\udfff]", "\ufffd", text)
    talk = harness.talk(text)
    assert talk.question.text == expected
    assert store.rename_conversation(talk.conversation_id, text).title == expected
    assert store.add_hint(talk.reply.id, text).text == expected
    assert store.events()[-1].data == {"text": expected}
    [trace] = store.add_traces([talk.trace(completion=text)])
    assert trace.completion == expected
    assert trace.prompt == [{"role": "user", "content": expected}]
    store.set_setting("key", {"value": text})
    assert store.setting("key") == {"value": expected}
    store.set_setting(f"key {text}", 1)
    assert store.setting(f"key {text}") == 1
    with pytest.raises(UnknownRecord):
        store.message(f"no such id {text}")
