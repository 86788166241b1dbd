"""Exports in the formats trainers read, and that they read back without loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from feedback_store import NewTrace, Store
from feedback_store.transfer import Wanted
from services.chat.sampling import Sampling, read_sampling
from services.data.feedback_files import FORMATS, export_lines
from services.data.feedback_import import ImportRefused, import_lines
from services.data.trl_rows import moment
from spear_core.errors import SpearError

BASE = "base-a"
ODD = 'a "quoted"\nline, \u2028 ünï 🙂 <|im_end|> \\'


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    opened: list[Store] = []

    def open_() -> Store:
        opened.append(Store(tmp_path / f"{len(opened)}.sqlite3"))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    """One reply confirmed by a revision, one edited after a longer talk, one liked, one disliked, one taken back."""
    store = open_store()
    teach(store, "Capital of Norway?", "Cairo", "Oslo", "confirmed")
    teach(store, ODD, ODD + " wrong", ODD + " right", "edited", system="Be odd.", turns=[("Hi", "Hello"), ("So?", "")])
    teach(store, "What is an owl?", None, "A bird", "liked")
    teach(store, "What is a lute?", "A bird", None, "unfixed", 0.5)
    (withdrawn,) = teach(store, "What is a harp?", None, "A harp", "liked")
    store.withdraw_traces(withdrawn)
    return store


def teach(
    store: Store,
    question: str,
    wrong: str | None,
    right: str | None,
    source: str,
    confidence: float = 1.0,
    system: str = "",
    turns: Any = (),
) -> list[str]:
    """Returns the id of the reply that the feedback is about."""
    talk = store.create_conversation(question[:40], user="ben")
    prompt: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    parent = None
    if system:
        store.add_message(talk.id, "system", system)
    for asked, answered in turns:
        prompt += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        parent = store.add_message(talk.id, "user", asked, parent_id=parent).id
        parent = store.add_message(talk.id, "assistant", answered, parent_id=parent).id
    prompt.append({"role": "user", "content": question})
    parent = store.add_message(talk.id, "user", question, parent_id=parent).id
    first = said = store.add_message(talk.id, "assistant", wrong or right or "", parent_id=parent)
    if wrong and right:
        kind = "edit" if source == "edited" else "revision"
        said = store.add_message(
            talk.id, "assistant", right, kind=kind, parent_id=parent, revises_id=first.id, hint="no"
        )
        if kind == "revision":
            store.set_verdict(said.id, "better")
        store.add_hint(first.id, "no")
    store.set_vote(first.id, -1 if wrong else 1)
    sides = [("win", said, right), ("lose", first, wrong)]
    store.add_traces(
        [
            NewTrace(side, talk.id, message.id, first.id, prompt, text, confidence, source, BASE)
            for side, message, text in sides
            if text
        ]
    )
    return [first.id]


def lines_of(store: Store, format_: str, **wanted: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_lines(store, format_, Wanted(**wanted))]


def test_preferences_are_trls_conversational_format(store: Store) -> None:
    first, second = lines_of(store, "preference")
    assert first["prompt"] == [{"role": "user", "content": "Capital of Norway?"}]
    assert first["chosen"] == [{"role": "assistant", "content": "Oslo"}]
    assert first["rejected"] == [{"role": "assistant", "content": "Cairo"}]
    assert [m["role"] for m in second["prompt"]] == ["system", "user", "assistant", "user", "assistant", "user"]


def test_kto_has_every_answer_with_its_label(store: Store) -> None:
    found = [(line["completion"][0]["content"][:6], line["label"]) for line in lines_of(store, "kto")[:2]]
    assert found == [("Oslo", True), ("Cairo", False)]
    assert [line["label"] for line in lines_of(store, "kto")] == [True, False, True, False, True, False]


@pytest.mark.parametrize("format_", FORMATS)
def test_an_export_reads_back_without_loss(open_store: Callable[[], Store], store: Store, format_: str) -> None:
    said = list(export_lines(store, format_, Wanted()))
    other = open_store()
    assert import_lines(other, format_, "".join(said).split("\n"), BASE) > 0
    assert list(export_lines(other, format_, Wanted())) == said
    assert import_lines(other, format_, said, BASE) == 0, "a second time nothing is new"


def test_branches_cut_replies_thoughts_and_sampling_come_back_as_they_were(open_store: Callable[[], Store]) -> None:
    """Export -> import -> export is the identity, for the conversations of two users."""
    there, here = open_store(), open_store()
    for user, ending in (("ben", "length"), ("anna", "stopped"), ("", "lost")):
        talk = there.create_conversation(f"Owls of {user}", user=user)
        asked = there.add_message(talk.id, "user", "What is an owl?")
        cut = there.add_message(talk.id, "assistant", "<think>A bird?</think> An owl is", parent_id=asked.id)
        there.update_message(cut.id, ending=ending)
        again = there.add_message(talk.id, "assistant", "A bird of the night.", parent_id=asked.id)
        there.update_message(again.id, ending="ended")
        there.set_vote(again.id, 1)
        there.set_leaf(talk.id, cut.id)
        there.set_sampling(talk.id, {"temperature": 0.7, "stop": ["\n", ODD], "seed": 7, "max_new_tokens": 20})
        prompt = [{"role": "user", "content": "What is an owl?"}]
        there.add_traces([NewTrace("win", talk.id, again.id, again.id, prompt, again.text, 1.0, "liked", BASE)])
    for format_ in FORMATS:
        said = list(export_lines(there, format_, Wanted()))
        new = open_store() if format_ != "events" else here
        import_lines(new, format_, said, BASE)
        assert list(export_lines(new, format_, Wanted())) == said
    for talk in there.conversations():
        assert here.sampling(talk.id) == there.sampling(talk.id) and here.leaf(talk.id) == there.leaf(talk.id)
        assert [(m.text, m.ending) for m in here.messages(talk.id)] == [
            (m.text, m.ending) for m in there.messages(talk.id)
        ]


@pytest.mark.parametrize(
    ("sampling", "sentence"),
    [
        ('{"temperature": 9}', "line 2: The temperature must be from 0 to 2, not 9; nothing"),
        ('{"temperature": "hot"}', "the sampling setting temperature cannot be 'hot'"),
        ('{"seed": true}', "the sampling setting seed cannot be 'True'"),
        ('{"stop": [""]}', "stop must be a list of texts"),
        ('{"heat": 1}', "'heat' is not a sampling setting; there are: temperature"),
        ("[]", "sampling must be a JSON object in a text"),
        ("{", "sampling must be a JSON object in a text"),
        (7, "sampling must be a JSON object in a text"),
    ],
)
def test_sampling_that_no_reply_could_be_drawn_with_is_refused(
    open_store: Callable[[], Store], sampling: Any, sentence: str
) -> None:
    there, here = open_store(), open_store()
    there.set_sampling(there.create_conversation("Owls").id, {"temperature": 1.0})
    lines = [json.loads(line) for line in export_lines(there, "events", Wanted())]
    lines[1]["sampling"] = sampling
    with pytest.raises(ImportRefused, match="nothing was imported") as refusal:
        import_lines(here, "events", map(json.dumps, lines), BASE)
    assert sentence in str(refusal.value) and here.conversations() == []


def test_every_sampling_setting_can_come_back() -> None:
    """A new field fails here until `read_sampling` knows of which kind it is."""
    assert read_sampling(asdict(Sampling(seed=3, stop=("x",)))) == Sampling(seed=3, stop=("x",))


def test_an_export_from_before_sampling_was_in_it_is_read(open_store: Callable[[], Store]) -> None:
    there, here = open_store(), open_store()
    talk = there.create_conversation("Owls")
    there.set_sampling(talk.id, {"temperature": 1.0})
    lines = [json.loads(line) for line in export_lines(there, "events", Wanted())]
    del lines[1]["sampling"]
    assert import_lines(here, "events", map(json.dumps, lines), BASE) == 1
    assert here.sampling(talk.id) == {}


def test_a_reply_that_was_being_written_there_is_not_being_written_here(open_store: Callable[[], Store]) -> None:
    there, here = open_store(), open_store()
    talk = there.create_conversation()
    question = there.add_message(talk.id, "user", "What is an owl?")
    there.add_message(talk.id, "assistant", "An owl is", parent_id=question.id, complete=False)
    import_lines(here, "events", export_lines(there, "events", Wanted()), BASE)
    assert [(m.text, m.complete) for m in here.messages(talk.id)] == [("What is an owl?", True), ("An owl is", True)]


def test_what_was_trained_there_is_pending_here_and_what_was_taken_back_stays_so(
    open_store: Callable[[], Store], store: Store
) -> None:
    claim = store.claim_round(BASE, 0)
    assert claim is not None
    store.finish_round(claim[0].id, "promoted", adapter_version=1)
    for format_ in ("kto", "events"):
        other = open_store()
        every = {"statuses": ("pending", "trained", "withdrawn")}
        assert import_lines(other, format_, export_lines(store, format_, Wanted(**every)), BASE) > 0  # type: ignore[arg-type]
        statuses = [t.status for t in other.traces()]
        assert sorted(set(statuses)) == ["pending", "withdrawn"] and statuses.count("withdrawn") == 1
        assert other.count_pending(BASE) == (3, 3)


def test_an_import_belongs_to_who_imports_and_is_no_answer_of_the_model(
    open_store: Callable[[], Store], store: Store
) -> None:
    other = open_store()
    import_lines(other, "preference", export_lines(store, "preference", Wanted()), BASE, "anna")
    assert {c.user for c in other.conversations()} == {"anna"}
    assert other.unobjected_replies(100, 1) == []
    assert {
        m.adapter_version for c in other.conversations() for m in other.messages(c.id) if m.role == "assistant"
    } == {-1}


def test_period_status_and_user_choose(store: Store) -> None:
    times = [trace.created_at_utc for trace in store.traces()]
    assert len(lines_of(store, "kto", since=times[2])) == len(lines_of(store, "kto")) - 2
    assert len(lines_of(store, "kto", until=times[2])) == 2
    assert [line["spear"]["status"] for line in lines_of(store, "kto", statuses=("withdrawn",))] == ["withdrawn"]
    assert lines_of(store, "kto", user="anna") == [] and len(lines_of(store, "kto", user="ben")) == 6
    assert moment("2026-03-04") == "2026-03-04T00:00:00.000000+00:00" < moment("2026-03-04T01:00:00+00:30")


def test_what_was_deleted_is_not_exported(store: Store) -> None:
    for conversation in store.conversations():
        store.delete_conversation(conversation.id)
    assert all(lines_of(store, format_) == [] for format_ in FORMATS)


def test_plain_texts_of_others_are_read_too(open_store: Callable[[], Store]) -> None:
    store = open_store()
    lines = ['{"prompt": "Capital of Peru?", "chosen": "Lima", "rejected": "Rome"}', ""]
    assert import_lines(store, "preference", lines, BASE) == 1
    win, lose = store.traces()
    assert (win.side, win.completion, win.source, win.confidence) == ("win", "Lima", "edited", 1.0)
    assert (lose.side, lose.completion) == ("lose", "Rome")


@pytest.mark.parametrize(
    ("format_", "line", "sentence"),
    [
        ("preference", "{", "line 2 is not a JSON object"),
        ("preference", "[]", "line 2 is not a JSON object"),
        ("preference", "[" * 100_000, "line 2 is not a JSON object"),
        (
            "preference",
            '{"prompt": "x", "chosen": "y"}',
            "line 2 is not of the format preference: 'rejected' is missing",
        ),
        ("preference", '{"prompt": 3, "chosen": "y", "rejected": "z"}', "line 2 is not of the format preference"),
        ("preference", '{"prompt": [], "chosen": "y", "rejected": "z"}', "The last message must be the user's"),
        ("preference", '{"prompt": [{"role": "tool", "content": "x"}], "chosen": "y", "rejected": "z"}', "not 'tool'"),
        ("kto", '{"prompt": "x", "completion": "y", "label": "yes"}', "label must be true or false"),
        ("kto", '{"prompt": "x", "completion": "y", "label": true, "spear": {"confidence": 7}}', "not in (0, 1]"),
        ("kto", '{"prompt": "x", "completion": "y", "label": true, "spear": {"source": "me"}}', "unknown source 'me'"),
        ("kto", '{"prompt": "x", "completion": "y", "label": true, "spear": {"created_at_utc": "now"}}', "not a date"),
        ("events", '{"type": "conversation"}', "line 2: 'id' is missing"),
        ("events", '{"type": "settings", "key": "x"}', "line 2: type 'settings' is not one of"),
        (
            "events",
            '{"type": "conversation", "id": "x", "title": "t", "learn": "yes", "created_at_utc": "2026-01-01T00:00:00+00:00",'
            ' "user": ""}',
            "learn cannot be 'yes'",
        ),
        (
            "events",
            '{"type": "conversation", "id": "x", "title": "t", "learn": 1, "created_at_utc": "x", "user": ""}',
            "nothing was imported",
        ),
        (
            "events",
            '{"type": "conversation", "id": "x", "title": "t", "learn": 1, "seq": 1, "created_at_utc":'
            ' "2026-01-01T00:00:00+00:00", "user": "", "x; DROP": 1}',
            "unknown x; DROP",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_nothing_is_imported(
    open_store: Callable[[], Store], format_: str, line: str, sentence: str
) -> None:
    good = {
        "preference": '{"prompt": "x", "chosen": "a", "rejected": "b"}',
        "kto": '{"prompt": "x", "completion": "a", "label": true}',
        "events": '{"type": "conversation", "id": "y", "title": "t", "learn": 1, '
        '"created_at_utc": "2026-01-01T00:00:00+00:00", "user": ""}',
    }
    store = open_store()
    with pytest.raises(ImportRefused, match="nothing was imported") as refusal:
        import_lines(store, format_, [good[format_], line], BASE)
    assert sentence in str(refusal.value)
    assert store.conversations() == [] and store.traces() == []


def test_an_unknown_format_or_status_is_refused(store: Store) -> None:
    with pytest.raises(SpearError, match="there are: preference, kto, events"):
        export_lines(store, "parquet", Wanted())
    with pytest.raises(Exception, match="status 'new' is not one of"):
        Wanted(statuses=("new",))
