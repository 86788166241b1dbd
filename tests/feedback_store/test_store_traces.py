"""Traces: added, withdrawn, claimed by rounds, given back, replayed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from feedback_store import NewTrace, ProofRecord, RoundFigures, Store, StoreError, Trace, UnknownRecord, UserStore
from tests.feedback_store.harness import BASE, StoreHarness


def test_traces_are_added_all_or_none(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    with pytest.raises(UnknownRecord):
        store.add_traces([talk.trace(), replace(talk.trace(), message_id="nobody")])
    assert store.traces() == []
    added = store.add_traces([talk.trace("win"), talk.trace("lose")])
    assert store.traces() == added
    assert [(t.side, t.status, t.round_id, t.confidence) for t in added] == [
        ("win", "pending", None, 1.0),
        ("lose", "pending", None, 1.0),
    ]


@pytest.mark.parametrize("wrong", [{"side": "draw"}, {"source": "guess"}, {"confidence": 0.0}, {"confidence": 1.01}])
def test_an_impossible_trace_is_refused(wrong: dict[str, object]) -> None:
    right = NewTrace("win", "c", "m", "m", [], "text", 0.5, "judged", BASE)
    with pytest.raises(StoreError, match=next(iter(wrong))):
        replace(right, **wrong)


def test_traces_are_found_by_what_is_asked(store: Store, harness: StoreHarness) -> None:
    one, two = harness.talk(), harness.talk()
    a, b = one.add("win", "lose")
    [c] = two.add("win", base="base-b")
    store.withdraw_traces(two.reply.id)
    assert [t.id for t in store.traces(base=BASE)] == [a.id, b.id]
    assert [t.id for t in store.traces(side="win")] == [a.id, c.id]
    assert [t.id for t in store.traces(status="withdrawn")] == [c.id]
    assert [t.id for t in store.traces(subject_id=one.reply.id, side="lose")] == [b.id]
    assert [t.id for t in store.traces(limit=1)] == [a.id]
    assert [t.id for t in store.traces(limit=2, newest_first=True)] == [c.id, b.id]


def test_the_subjects_of_the_newest_traces_are_named_once_each(store: Store, harness: StoreHarness) -> None:
    older, newer, other = harness.talk(), harness.talk(), harness.talk()
    older.add("win", "lose")
    newer.add("win", "lose")
    other.add("win", base="another base")
    pairs = [(talk.conversation_id, talk.reply.id) for talk in (older, newer)]
    assert store.newest_subjects(BASE, 4) == store.newest_subjects(BASE, 100) == set(pairs)
    assert store.newest_subjects(BASE, 2) == {pairs[1]}
    assert store.newest_subjects("unknown", 100) == set()


def test_a_withdrawn_vote_never_reaches_training(store: Store, harness: StoreHarness) -> None:
    taken_back, stands = harness.talk("one"), harness.talk("two")
    taken_back.add("win", "lose")
    [win] = stands.add("win")
    assert store.withdraw_traces(taken_back.reply.id) == (2, 0)
    claim = store.claim_round(BASE, 0)
    assert claim is not None and [t.id for t in claim[1]] == [win.id]
    store.finish_round(claim[0].id, "interrupted")
    assert store.count_pending(BASE) == (1, 0)


def test_a_running_round_notices_what_is_withdrawn(store: Store, harness: StoreHarness) -> None:
    one, two = harness.talk("one"), harness.talk("two")
    one.add("win")
    two.add("win")
    claim = store.claim_round(BASE, 0)
    assert claim is not None
    assert store.withdraw_traces(one.reply.id) == (1, 0)
    assert [t.subject_id for t in store.still_claimed(claim[0].id)] == [two.reply.id]
    store.finish_round(claim[0].id, "promoted", adapter_version=1)
    assert harness.statuses() == ["withdrawn", "trained"]


def test_withdrawing_counts_what_already_trained_and_leaves_it_listed(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    talk.add("win", "lose")
    harness.promoted()
    talk.add("lose")
    assert store.withdraw_traces(talk.reply.id) == (1, 2)
    assert harness.statuses() == ["trained", "trained", "withdrawn"]


@pytest.mark.parametrize("ended", ["discarded", "rolled back"])
def test_withdrawn_feedback_of_an_undone_round_cannot_be_asked_for_again(
    store: Store, harness: StoreHarness, ended: str
) -> None:
    talk = harness.talk()
    talk.add("win")
    if ended == "discarded":
        claim = store.claim_round(BASE, 0)
        assert claim is not None
        store.finish_round(claim[0].id, "discarded")
    else:
        harness.promoted()
        store.roll_back(BASE)
    assert store.withdraw_traces(talk.reply.id) == (1, 0)
    assert store.claim_round(BASE, 0, only=[t.id for t in store.traces()]) is None
    assert harness.statuses() == ["withdrawn"]


def test_a_new_word_replaces_the_old_one_at_once(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    talk.add("lose")
    with pytest.raises(UnknownRecord):
        store.replace_traces(talk.reply.id, [replace(talk.trace(), conversation_id="nobody")])
    assert harness.statuses() == ["pending"]
    [new] = store.replace_traces(talk.reply.id, [talk.trace("win")])
    assert [(t.side, t.status) for t in store.traces()] == [("lose", "withdrawn"), ("win", "pending")]
    assert store.traces(status="pending") == [new]


def test_a_round_claims_every_pending_trace_of_its_own_base(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    mine = talk.add("win", "lose", "lose")
    talk.add("win", base="base-b")
    assert store.count_pending(BASE) == (1, 2)
    claim = store.claim_round(BASE, parent_version=4)
    assert claim is not None
    started, traces = claim
    assert (started.status, started.wins, started.loses, started.parent_version) == ("running", 1, 2, 4)
    assert (started.finished_at_utc, started.proof, started.figures) == (None, None, RoundFigures())
    assert [t.id for t in traces] == [t.id for t in mine]
    assert {(t.status, t.round_id) for t in traces} == {("claimed", started.id)}
    assert store.count_pending(BASE) == (0, 0) and store.count_pending("base-b") == (1, 0)
    assert store.claim_round(BASE, 4) is None


def test_losing_traces_alone_start_no_round(store: Store, harness: StoreHarness) -> None:
    harness.talk().add("lose", "lose")
    assert store.claim_round(BASE, 0) is None
    assert store.rounds(BASE) == [] and harness.statuses() == ["pending", "pending"]


def test_a_conversation_that_must_not_teach_is_left_alone(store: Store, harness: StoreHarness) -> None:
    private, open_ = harness.talk("private", learn=False), harness.talk("open")
    private.add("win")
    assert store.count_pending(BASE) == (0, 0) and store.claim_round(BASE, 0) is None
    [win] = open_.add("win")
    claim = store.claim_round(BASE, 0)
    assert claim is not None and [t.id for t in claim[1]] == [win.id]
    store.set_learn(open_.conversation_id, False)
    assert store.still_claimed(claim[0].id) == []
    store.set_learn(private.conversation_id, True)
    assert store.count_pending(BASE) == (1, 0)


@pytest.mark.parametrize(
    ("status", "becomes", "keeps_round"),
    [
        ("promoted", "trained", True),
        ("discarded", "skipped", True),
        ("skipped", "pending", False),
        ("interrupted", "pending", False),
    ],
)
def test_traces_follow_the_end_of_their_round(
    store: Store, harness: StoreHarness, status: str, becomes: str, keeps_round: bool
) -> None:
    harness.talk().add("win", "lose")
    claim = store.claim_round(BASE, 0)
    assert claim is not None
    figures, proof = RoundFigures(anchor_kl=0.25), ProofRecord("q", "a", "b")
    ended = store.finish_round(claim[0].id, status, figures=figures, verdict="why", proof=proof, replayed=3)
    assert (ended.status, ended.figures, ended.verdict, ended.replayed) == (status, figures, "why", 3)
    assert ended.proof == proof
    assert ended.finished_at_utc is not None and ended.finished_at_utc >= ended.started_at_utc
    assert harness.statuses() == [becomes, becomes]
    assert {t.round_id for t in store.traces()} == {ended.id if keeps_round else None}
    with pytest.raises(StoreError, match="ended already"):
        store.finish_round(ended.id, "promoted")


def test_a_round_ends_only_in_a_way_that_exists(store: Store, harness: StoreHarness) -> None:
    harness.talk().add("win")
    claim = store.claim_round(BASE, 0)
    assert claim is not None
    with pytest.raises(StoreError, match="won"):
        store.finish_round(claim[0].id, "won")
    with pytest.raises(UnknownRecord):
        store.finish_round(999, "discarded")
    assert store.round(claim[0].id).status == "running"


def test_a_refused_right_answer_is_found_until_there_is_a_newer_word(store: Store, harness: StoreHarness) -> None:
    def refused(completion: str) -> Trace:
        [trace] = harness.talk().add("win", completion=completion)
        claimed = store.claim_round(BASE, 0)
        assert claimed is not None
        store.finish_round(claimed[0].id, "discarded")
        return trace

    def known(base: str = BASE, user: str = "") -> list[str]:
        return [t.id for t in store.wins_from_memory(base, user, 9)]

    first = refused("Lima")
    assert known() == [first.id]
    assert known("another base") == [] and known(user="ben") == []
    second = refused("Lima, in the west")
    assert known() == [second.id]
    harness.talk().add("win", completion="It is Lima")
    harness.promoted()
    assert known() == []


def test_of_many_waiting_answers_the_newest_of_the_user_are_found(store: Store, harness: StoreHarness) -> None:
    own = [harness.talk(str(i)).add("win")[0].id for i in range(5)]
    StoreHarness(UserStore(store, "ben")).talk("another").add("win")
    assert [t.id for t in store.wins_from_memory(BASE, "", 3)] == own[:1:-1]


def test_rounds_come_newest_first_per_base(store: Store, harness: StoreHarness) -> None:
    assert store.last_round(BASE) is None
    ids = []
    for base in (BASE, "base-b", BASE):
        harness.talk().add("win", base=base)
        claim = store.claim_round(base, 0)
        assert claim is not None
        ids.append(claim[0].id)
    assert [r.id for r in store.rounds(BASE)] == [ids[2], ids[0]]
    assert [r.id for r in store.rounds(BASE, limit=1)] == [ids[2]]
    last = store.last_round("base-b")
    assert last is not None and last.id == ids[1]


def test_interrupted_rounds_give_back_all_but_the_withdrawn(store: Store, harness: StoreHarness, path: Path) -> None:
    one, two = harness.talk("one"), harness.talk("two")
    one.add("win")
    two.add("win")
    elsewhere = harness.talk()
    elsewhere.add("win", base="base-b")
    claim = store.claim_round(BASE, 0)
    assert claim is not None and store.claim_round("base-b", 0) is not None
    store.withdraw_traces(two.reply.id)
    store.close()
    with Store(path) as reopened:
        assert reopened.release_interrupted(BASE) == 1
        assert reopened.release_interrupted(BASE) == 0
        assert [t.status for t in reopened.traces()] == ["pending", "withdrawn", "claimed"]
        assert reopened.round(claim[0].id).status == "interrupted"


def test_two_stores_never_claim_a_trace_twice(store: Store, harness: StoreHarness, path: Path) -> None:
    talk = harness.talk()
    done = threading.Event()

    def claim_until_done(mine: Store) -> list[tuple[str, int]]:
        claimed: list[tuple[str, int]] = []
        while True:
            last_look = done.is_set()
            claim = mine.claim_round(BASE, 0)
            if claim is not None:
                claimed += [(trace.id, claim[0].id) for trace in claim[1]]
            elif last_look:
                return claimed

    with Store(path) as other, ThreadPoolExecutor(4) as pool:
        claimers = [pool.submit(claim_until_done, mine) for mine in (store, other, store, other)]
        try:
            for _ in range(20):
                talk.add("win", "lose", "win")
        finally:
            done.set()
        claimed = [pair for claimer in claimers for pair in claimer.result(timeout=30)]
    assert len(claimed) == 60 and len(dict(claimed)) == 60
    assert {(t.id, t.round_id) for t in store.traces(status="claimed")} == set(claimed)


def trained_win(harness: StoreHarness, question: str, completion: str = "Paris", confidence: float = 1.0) -> Trace:
    [trace] = harness.talk(question).add("win", completion=completion, confidence=confidence)
    harness.promoted()
    return trace


def test_replay_takes_only_standing_human_wins(store: Store, harness: StoreHarness) -> None:
    good = trained_win(harness, "good")
    trained_win(harness, "judged", confidence=0.5)
    excluded = trained_win(harness, "excluded")
    private = harness.talk("private")
    private.add("win", "lose")
    harness.promoted()
    store.set_learn(private.conversation_id, False)
    trained_win(harness, "undone")
    store.roll_back(BASE)
    harness.talk("elsewhere").add("win", base="base-b")
    harness.promoted("base-b")
    harness.talk("pending").add("win")
    assert {t.id for t in store.replay_wins(BASE, 10, [], 0)} == {good.id, excluded.id}
    assert [t.id for t in store.replay_wins(BASE, 10, {excluded.id}, 0)] == [good.id]


def test_replay_repeats_only_the_latest_word_on_a_prompt(store: Store, harness: StoreHarness) -> None:
    trained_win(harness, "q", "old")
    newer = trained_win(harness, "q", "newer")
    assert [t.id for t in store.replay_wins(BASE, 10, [], 0)] == [newer.id]
    newest = harness.talk("q")
    same_prompt = [{"content": "q", "role": "user"}]  # the order of keys is no difference
    store.add_traces([replace(newest.trace(completion="newest"), prompt=same_prompt)])
    assert store.replay_wins(BASE, 10, [], 0) == []  # the latest word waits for its round
    claim = store.claim_round(BASE, 2)
    assert claim is not None and store.replay_wins(BASE, 10, [], 0) == []
    store.withdraw_traces(newest.reply.id)
    assert [t.id for t in store.replay_wins(BASE, 10, [], 0)] == [newer.id]


def test_in_replay_what_a_person_said_does_not_give_way_to_what_the_model_judged(
    store: Store, harness: StoreHarness
) -> None:
    confirmed = trained_win(harness, "q", "confirmed")
    judged = harness.talk("q")
    store.add_traces([replace(judged.trace(completion="judged"), source="judged")])
    assert [t.id for t in store.replay_wins(BASE, 10, [], 0)] == [confirmed.id]
    harness.promoted()
    assert [t.id for t in store.replay_wins(BASE, 10, [], 0)] == [confirmed.id]


def test_what_a_person_no_longer_stands_by_is_not_replayed(store: Store, harness: StoreHarness) -> None:
    liked, refused, corrected = harness.talk("liked"), harness.talk("liked, then not"), harness.talk("corrected")
    revision = store.add_message(
        corrected.conversation_id, "assistant", "Paris", kind="revision", parent_id=corrected.question.id, revises_id=corrected.reply.id
    )  # fmt: skip
    store.set_vote(corrected.reply.id, -1)
    store.set_verdict(revision.id, "better")
    traces = [
        liked.add("win")[0],
        refused.add("win")[0],
        *store.add_traces([replace(corrected.trace(), message_id=revision.id)]),
    ]
    assert not any(store.is_replayed(t.id) for t in traces), "they are not learned yet"
    harness.promoted()
    assert {t.id for t in store.replay_wins(BASE, 10, [], 0)} == {t.id for t in traces}
    store.set_vote(liked.reply.id, 0)
    store.set_vote(refused.reply.id, -1)
    assert [t.id for t in store.replay_wins(BASE, 10, [], 0)] == [traces[2].id]
    store.set_verdict(revision.id, "still_wrong")
    assert not any(store.is_replayed(t.id) for t in traces)


def test_a_prompt_is_settled_by_a_person_not_by_the_judge(store: Store, harness: StoreHarness) -> None:
    [complaint] = harness.talk("q").add("lose")
    elsewhere, judged = harness.talk("another question"), harness.talk("q")
    elsewhere.add("win")
    store.add_traces([replace(judged.trace(), source="judged")])
    assert not store.is_settled(complaint)
    again = harness.talk("q")
    again.add("win")
    assert store.is_settled(complaint)
    store.withdraw_traces(again.reply.id)
    assert not store.is_settled(complaint)


def test_the_choice_of_replay_follows_the_seed(store: Store, harness: StoreHarness) -> None:
    for i in range(12):
        harness.talk(f"question {i}").add("win")
    harness.promoted()

    def ids(seed: int) -> list[str]:
        return [t.id for t in store.replay_wins(BASE, 5, [], seed)]

    assert ids(1) == ids(1) and len(set(ids(1))) == 5
    assert ids(1) != ids(2)


def test_a_round_takes_a_portion_of_a_burst_corrections_first_and_the_rest_waits_for_the_next(
    store: Store, harness: StoreHarness
) -> None:
    def liked(question: str) -> str:
        return store.add_traces([replace(harness.talk(question).trace(), source="liked")])[0].id

    [rejected] = harness.talk("rejected").add("lose")
    likes = [liked(f"liked {n}") for n in range(4)]
    corrected = [t.id for t in harness.talk("corrected").add("win", "lose")]
    older = liked("said twice")
    newer = harness.talk("said twice").add("win", completion="Rome")[0].id
    taken = []
    while claim := store.claim_round(BASE, 0, most=3):
        taken.append([t.id for t in claim[1]])
        assert (claim[0].wins, claim[0].loses) == (
            sum(t.side == "win" for t in claim[1]),
            sum(t.side == "lose" for t in claim[1]),
        )
        store.finish_round(claim[0].id, "promoted", adapter_version=1)
    # a prompt is never divided: four of three for the corrections, and both words on "said twice" in one round
    assert taken == [[*corrected, older, newer], likes[:3], [rejected.id, likes[3]]]


def test_without_a_burst_a_round_takes_everything(store: Store, harness: StoreHarness) -> None:
    expected = [t.id for n in range(3) for t in harness.talk(f"question {n}").add("win", "lose")]
    claim = store.claim_round(BASE, 0, most=6)
    assert claim is not None and [t.id for t in claim[1]] == expected


def test_an_answer_that_is_trained_again_in_the_background_is_one_right_answer(
    store: Store, harness: StoreHarness
) -> None:
    one, two = harness.talk("one"), harness.talk("two")
    one.add("win", "lose")
    harness.promoted()
    for _ in range(2):
        store.add_traces([replace(one.trace(side), source="relapse") for side in ("win", "lose")])
        harness.promoted()
    assert store.count_learned(BASE) == 1
    two.add("win")
    assert store.count_learned(BASE) == 1, "it is not trained yet"
    harness.promoted()
    assert store.count_learned(BASE) == 2
    one.add("win", completion="Lyon")  # the person has changed their mind
    harness.promoted()
    assert store.count_learned(BASE) == 2 and store.count_learned("base-b") == 0
    store.roll_back(BASE)
    store.roll_back(BASE)
    assert store.count_learned(BASE) == 1


def test_questions_with_rejected_answers_are_counted_once_each(store: Store, harness: StoreHarness) -> None:
    one, two, private = harness.talk("one"), harness.talk("two"), harness.talk("three", learn=False)
    one.add("lose", "lose")
    two.add("lose")
    private.add("lose")
    assert store.count_rejected_questions(BASE) == 2 and store.count_rejected_questions("base-b") == 0
