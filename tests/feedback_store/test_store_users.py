"""What one user sees of the store, and that no method of it was forgotten."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from feedback_store import Store, StoreError, UnknownRecord, UserStore
from feedback_store.transfer import Wanted
from tests.feedback_store.harness import BASE, StoreHarness, Talk

# Methods that are about everybody and return no word of anybody: figures, versions, files, settings
ABOUT_ALL = {
    "active_version", "adapter", "adapters", "add_adapter", "add_session", "approve_peer", "assign_conversations",
    "at_one_moment", "back_up", "change_known_browsers", "close", "conversation_owners",
    "count_learned", "count_pending", "count_rejected_questions", "counts", "end_all_sessions", "end_sessions",
    "end_unfinished_replies", "erase", "finish_round", "first_replies",
    "forget", "forget_words_of_rounds", "ids", "keep_used_request", "known_browsers", "last_round", "lineage",
    "mark_pruned", "newest_undone", "next_version", "note_contact", "note_pushed", "note_update",
    "peer", "peers", "promote", "put_back", "release_interrupted", "remove_peer", "restore", "roll_back",
    "round", "rounds", "sessions", "set_active", "set_pinned", "set_setting", "setting", "taught_in", "transaction",
    "used_requests",
}  # fmt: skip
# Methods that reach rows only through those that ask whose they are
THROUGH_OTHERS = {
    "add_hint", "add_message", "delete_conversation", "rename_conversation", "replace_traces", "set_learn",
    "set_verdict", "set_vote", "update_message",
}  # fmt: skip


def public(cls: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}


@pytest.fixture
def theirs(store: Store) -> Talk:
    """A conversation of ben's, with a vote, a hint and a trace."""
    ben = UserStore(store, "ben")
    talk = StoreHarness(ben).talk("What is ben's secret?")
    talk.add("win", "lose")
    ben.set_vote(talk.reply.id, -1)
    ben.add_hint(talk.reply.id, "ben's hint")
    return talk


@pytest.fixture
def mine(store: Store) -> UserStore:
    return UserStore(store, "cora")


def test_every_method_of_the_store_either_asks_whose_it_is_or_is_known_to_be_about_all() -> None:
    asking = {name for name in public(Store) if getattr(UserStore, name) is not getattr(Store, name)}
    assert asking | ABOUT_ALL | THROUGH_OTHERS == public(Store)
    assert not asking & (ABOUT_ALL | THROUGH_OTHERS)


@pytest.mark.parametrize(
    "call",
    [
        lambda s, t: s.conversation(t.conversation_id),
        lambda s, t: s.conversations(after=t.conversation_id),
        lambda s, t: s.message(t.reply.id),
        lambda s, t: s.vote(t.reply.id),
        lambda s, t: s.hints_of(t.reply.id),
        lambda s, t: s.rename_conversation(t.conversation_id, "x"),
        lambda s, t: s.set_learn(t.conversation_id, False),
        lambda s, t: s.delete_conversation(t.conversation_id),
        lambda s, t: s.add_message(t.conversation_id, "user", "x"),
        lambda s, t: s.update_message(t.reply.id, text="x"),
        lambda s, t: s.set_verdict(t.reply.id, "better"),
        lambda s, t: s.set_vote(t.reply.id, 1),
        lambda s, t: s.add_hint(t.reply.id, "x"),
        lambda s, t: s.add_event("x", t.reply.id, {}),
        lambda s, t: s.add_traces([t.trace()]),
        lambda s, t: s.withdraw_traces(t.reply.id),
        lambda s, t: s.replace_traces(t.reply.id, []),
    ],
)
def test_what_is_anothers_looks_like_what_does_not_exist_and_does_not_change(
    store: Store, mine: UserStore, theirs: Talk, call: Any
) -> None:
    before = list(store.exported_records(Wanted()))
    with pytest.raises(UnknownRecord):
        call(mine, theirs)
    assert list(store.exported_records(Wanted())) == before


def test_no_list_holds_what_is_anothers(mine: UserStore, theirs: Talk) -> None:
    assert mine.conversations() == mine.messages(theirs.conversation_id) == mine.traces() == mine.events() == []
    assert mine.refused_corrections(theirs.conversation_id) == {}
    assert mine.votes(theirs.conversation_id) == {} and mine.revisions_of(theirs.reply.id) == []
    assert mine.corrections_of(theirs.reply.id) == []
    assert mine.latest_feedback(BASE, 10) == mine.conversations_that_say("What is ben's secret?", 10) == []
    assert list(mine.exported_records(Wanted())) == list(mine.exported_traces(Wanted(user="ben"))) == []


def test_conversations_that_say_a_text_are_found_behind_hundreds_of_newer_ones(store: Store) -> None:
    ben = UserStore(store, "ben")
    long = "word " * 30

    def say(text: str) -> str:
        conversation = ben.create_conversation()
        ben.add_message(conversation.id, "user", text)
        return conversation.id

    first, second = say(long + "one"), say(long + "one")
    with store.transaction():
        for _ in range(250):
            say(long + "two")
    assert ben.conversations_that_say(long + "one", 10) == [second, first]
    assert ben.conversations_that_say(long + "one", 1) == [second]
    assert ben.conversations_that_say(long, 10) == []


def test_each_sees_their_own(store: Store, theirs: Talk) -> None:
    ben = UserStore(store, "ben")
    assert [c.id for c in ben.conversations()] == [theirs.conversation_id]
    assert len(ben.latest_feedback(BASE, 10)) == 2 and ben.vote(theirs.reply.id) == -1
    assert {t.id for t in ben.traces()} == {t.id for t in store.traces()}
    assert len(ben.events()) == len(store.events()) > 0


def test_what_others_say_leaves_no_less_room_for_what_is_found_of_ones_own(store: Store, mine: UserStore) -> None:
    own = [StoreHarness(mine).talk("What is a secret?").conversation_id for _ in range(2)]
    for _ in range(3):
        StoreHarness(UserStore(store, "ben")).talk("What is ben's secret?")
    assert [c.id for c in mine.conversations(2, search="secret")] == own[::-1]
    assert [c.id for c in mine.conversations(2, search="secret", after=own[1])] == own[:1]
    assert len(store.conversations(search="secret")) == 5


def test_feedback_of_others_is_as_long_as_asked_for_however_much_is_ones_own(store: Store, mine: UserStore) -> None:
    ben = UserStore(store, "ben")
    theirs = [StoreHarness(ben).talk() for _ in range(3)]
    own = [StoreHarness(mine).talk() for _ in range(3)]
    for talk in (*theirs, *own):
        talk.add("win", "lose")
    of_others = store.latest_feedback_of_others(BASE, "cora", 2)
    assert [t.subject_id for t in of_others] == [talk.reply.id for talk in theirs[1:] for _ in range(2)]
    assert {t.subject_id for t in store.latest_feedback_of_others(BASE, "ben", 9)} == {talk.reply.id for talk in own}
    assert len(store.latest_feedback_of_others(BASE, "dora", 9)) == 12
    for talk in own:
        store.delete_conversation(talk.conversation_id)
    assert store.latest_feedback_of_others(BASE, "ben", 9) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.unobjected_replies(10, 1),
        lambda s: s.replay_wins(BASE, 10, [], 1),
        lambda s: s.is_replayed("a trace"),
        lambda s: s.stands("a trace"),
        lambda s: s.latest_feedback_of_others(BASE, "ben", 1),
        lambda s: s.newest_subjects(BASE, 1),
        lambda s: s.shareable_wins(BASE),
        lambda s: s.peer_questions(BASE, 1),
        lambda s: s.is_settled(None),
        lambda s: s.claim_round(BASE, 0),
        lambda s: s.keep_neighbours("trace", []),
        lambda s: s.kept_neighbours(["trace"]),
        lambda s: s.still_claimed(1),
        lambda s: s.queued_wins(BASE, 10),
    ],
)
def test_what_the_learning_reads_of_everybody_is_refused(mine: UserStore, theirs: Talk, call: Any) -> None:
    with pytest.raises(StoreError, match="not for one user"):
        call(mine)


def test_a_proof_is_for_those_alone_who_confirmed_its_answer(store: Store, mine: UserStore, theirs: Talk) -> None:
    claim = store.claim_round(BASE, 0)
    assert claim is not None
    question = theirs.question.text
    assert UserStore(store, "ben").proof_is_mine(claim[0].id, question)
    assert not mine.proof_is_mine(claim[0].id, question)
    assert not UserStore(store, "ben").proof_is_mine(claim[0].id, "another question")


def test_conversations_from_before_there_were_users_can_be_given_to_one(store: Store, mine: UserStore) -> None:
    old = StoreHarness(store).talk()
    assert mine.conversations() == []
    assert store.assign_conversations("cora") == 1
    assert [c.id for c in mine.conversations()] == [old.conversation_id]


def test_conversations_of_one_user_can_be_given_to_another(store: Store, mine: UserStore, theirs: Talk) -> None:
    old = StoreHarness(store).talk()
    assert store.conversation_owners() == {"", "ben"}
    assert store.assign_conversations("cora", "ben") == 1
    assert [c.id for c in mine.conversations()] == [theirs.conversation_id]
    assert store.conversation(old.conversation_id).user == "" and store.conversation_owners() == {"", "cora"}


def test_a_closed_store_is_closed_for_its_users_too(store: Store, mine: UserStore) -> None:
    store.close()
    with pytest.raises(StoreError, match="closed"):
        mine.conversations()
