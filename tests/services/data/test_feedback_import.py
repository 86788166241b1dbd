"""Files of feedback from elsewhere: what TRL's documentation shows imports, and what cannot be learned names its row."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback_store import Store, Trace
from feedback_store.transfer import Wanted
from services.data import feedback_import
from services.data.feedback_files import FORMATS, export_lines
from services.data.feedback_import import Imported, ImportRefused, import_file
from spear_core.errors import SpearError
from tests.feedback_store.harness import BASE, StoreHarness

GOOD = [
    {"prompt": f"Capital of {land}?", "chosen": right, "rejected": wrong}
    for land, right, wrong in (("Norway", "Oslo", "Cairo"), ("Peru", "Lima", "Rome"), ("Kenya", "Nairobi", "Paris"))
]
ASK = [{"role": "user", "content": "Capital of Norway?"}]
SYSTEM = [{"role": "system", "content": "Be brief."}]
RIGHT = [{"role": "assistant", "content": "Oslo"}]
WRONG = [{"role": "assistant", "content": "Cairo"}]
MORE = [{"role": "user", "content": "And of Peru?"}]
LIMA = [{"role": "assistant", "content": "Lima"}]
ROME = [{"role": "assistant", "content": "Rome"}]


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
    return open_store()


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def taught(store: Store) -> list[tuple[str, str, str]]:
    """(side, last question, answer) of every trace."""
    return [(t.side, t.prompt[-1]["content"], t.completion) for t in store.traces()]


def roles_of(trace: Trace) -> list[str]:
    return [message["role"] for message in trace.prompt]


# -- what the page would refuse ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", " ", "\n\t", [{"role": "assistant", "content": " "}]])
def test_an_empty_right_answer_names_its_line_and_nothing_is_stored(store: Store, empty: Any) -> None:
    bad = {"prompt": "What is the capital of Spain?", "chosen": empty, "rejected": "Rome."}
    with pytest.raises(ImportRefused, match=r"line 4 is not of the format preference: chosen is empty; nothing was"):
        import_file(store, "preference", jsonl(*GOOD, bad), BASE)
    assert store.traces() == [] and store.conversations() == []
    done = import_file(store, "preference", jsonl(*GOOD, bad), BASE, skip_bad=True)
    assert done.added == 3 and [(s.place, s.reason) for s in done.skipped] == [("line 4", "chosen is empty")]
    assert store.count_pending(BASE) == (3, 3)


@pytest.mark.parametrize("label", [True, False, 1, 0])
@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_completion_is_refused_with_either_label(store: Store, empty: str, label: Any) -> None:
    good, bad = ({"prompt": "x", "completion": said, "label": label} for said in ("yes", empty))
    with pytest.raises(ImportRefused, match="line 2 is not of the format kto: completion is empty"):
        import_file(store, "kto", jsonl(good, bad), BASE)
    assert import_file(store, "kto", jsonl(good, bad), BASE, skip_bad=True).added == 1


@pytest.mark.parametrize("rejected", ["Oslo", "oslo.", " Oslo "])
def test_chosen_equal_to_rejected_is_refused(store: Store, rejected: str) -> None:
    same = {"prompt": "Capital of Norway?", "chosen": "Oslo", "rejected": rejected}
    with pytest.raises(ImportRefused, match="chosen and rejected are the same answer"):
        import_file(store, "preference", jsonl(same), BASE)
    assert store.traces() == []


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("preference", {"prompt": " ", "chosen": "a", "rejected": "b"}, "the question is empty"),
    ("preference", {"prompt": "x", "chosen": "a" * 100_001, "rejected": "b"}, "chosen has 100,001 characters"),
    ("preference", {"prompt": "x" * 100_001, "chosen": "a", "rejected": "b"}, "the question has 100,001 characters"),
    ("preference", {"chosen": "The sky is blue.", "rejected": "The sky is green."}, "'prompt' is missing"),
    ("preference", {"prompt": None, "chosen": "a", "rejected": "b"}, "'prompt' is missing"),
    ("preference", {"prompt": "x", "chosen": None, "rejected": "b"}, "chosen must be a text or a list of messages"),
    ("preference", {"prompt": "x", "chosen": [], "rejected": "b"}, "chosen is empty"),
    ("preference", {"prompt": "x", "chosen": [1], "rejected": "b"}, "a list of messages with role and content"),
    ("preference", {"prompt": ASK, "chosen": [*ASK, *RIGHT], "rejected": [*MORE, *ROME]}, "does not begin with the"),
    ("preference", {"prompt": ASK, "chosen": RIGHT, "rejected": [*RIGHT, *MORE, *ROME]}, "an answer of their own"),
    ("preference", {"chosen": [*ASK, *RIGHT], "rejected": [*MORE, *ROME]}, "part in an answer of the assistant"),
    ("preference", {"chosen": [*ASK, *RIGHT, *MORE], "rejected": [*ASK, *WRONG]}, "chosen must end with an answer"),
    ("preference", {"chosen": RIGHT, "rejected": WRONG}, "The last message must be the user's"),
    ("preference", {"prompt": [*ASK, *RIGHT], "chosen": LIMA, "rejected": ROME}, "The last message must be the user's"),
    ("preference", {"prompt": ASK, "chosen": [*RIGHT, *SYSTEM, *LIMA], "rejected": WRONG}, "belongs into the prompt"),
    ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "tools": [{}]}, "tools cannot be learned"),
    ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "spear": 7}, "spear must be an object"),
    ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "spear": {"created_at_utc": 7}}, "must be a text"),
    ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "spear": {"confidence": []}}, "not in (0, 1]"),
    ("preference", {"prompt": "x", "chosen": "a", "rejected": "b", "spear": {"source": []}}, "unknown source"),
    (
        "preference",
        {"prompt": "x", "chosen": [{"role": "assistant", "content": [{"type": "image"}]}], "rejected": "b"},
        "only parts of type text can be learned, not 'image'",
    ),
    (
        "preference",
        {"prompt": "x", "chosen": [{"role": "assistant", "content": None, "tool_calls": [{}]}], "rejected": "b"},
        "a message that calls a tool",
    ),
    ("preference", {"prompt": "x", "chosen": [{"role": "assistant"}], "rejected": "b"}, "content must be a text"),
    ("kto", {"prompt": "x", "completion": "a"}, "'label' is missing"),
    ("kto", {"prompt": "x", "completion": "a", "label": 2}, "label must be true or false, or 1 or 0"),
    ("kto", {"prompt": "x", "completion": "a", "label": None}, "label must be true or false"),
    ("kto", {"prompt": "x", "completion": ASK, "label": 1}, "does not begin with the prompt"),
    ("kto", {"completion": RIGHT, "label": 1}, "The last message must be the user's"),
]


@pytest.mark.parametrize(("format_", "row", "sentence"), REFUSED)
def test_what_cannot_be_learned_is_refused_in_words_of_ours(
    store: Store, format_: str, row: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ImportRefused) as refusal:
        import_file(store, format_, jsonl(row), BASE)
    assert sentence in str(refusal.value) and str(refusal.value).startswith("line 1 ")
    for words in ("unpack", "NoneType", "object is not", "Error", "dict", "invalid literal"):
        assert words not in str(refusal.value)
    assert store.traces() == []
    assert import_file(store, format_, jsonl(row), BASE, skip_bad=True).added == 0


# -- TRL's shapes ------------------------------------------------------------------------------------------------------

PAIR = [("win", "Capital of Norway?", "Oslo"), ("lose", "Capital of Norway?", "Cairo")]
TEXT_PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "Capital of"}, {"type": "text", "text": "Norway?"}]}
]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Capital of Norway?", "chosen": "Oslo", "rejected": "Cairo"},
        {"prompt": ASK, "chosen": RIGHT, "rejected": WRONG},
        {"chosen": [*ASK, *RIGHT], "rejected": [*ASK, *WRONG]},
        {"prompt": None, "chosen": [*ASK, *RIGHT], "rejected": [*ASK, *WRONG], "tools": None},
        {"prompt": ASK, "chosen": [*ASK, *RIGHT], "rejected": [*ASK, *WRONG]},
        {"prompt": "Capital of Norway?", "chosen": [*ASK, *RIGHT], "rejected": [*ASK, *WRONG]},
        {"prompt": "Capital of Norway?", "chosen": [*ASK, *RIGHT], "rejected": "Cairo"},
        {"prompt": ASK, "chosen": RIGHT, "rejected": WRONG, "score_chosen": 9.0, "chat_template_kwargs": {}},
    ],
)
def test_preference_pairs_in_every_shape(store: Store, row: dict[str, Any]) -> None:
    assert import_file(store, "preference", jsonl(row), BASE) == Imported(1)
    assert taught(store) == PAIR


def test_a_developer_message_is_a_system_message_and_text_parts_are_text(store: Store) -> None:
    prompt = [{"role": "developer", "content": "Be brief."}, *TEXT_PARTS]
    import_file(store, "preference", jsonl({"prompt": prompt, "chosen": RIGHT, "rejected": WRONG}), BASE)
    (win, _) = store.traces()
    assert roles_of(win) == ["system", "user"] and win.prompt[1]["content"] == "Capital of\nNorway?"


def test_a_bare_question_gets_the_system_message_of_the_conversations(store: Store) -> None:
    row = {"prompt": "Capital of Norway?", "chosen": [*SYSTEM, *ASK, *RIGHT], "rejected": [*SYSTEM, *ASK, *WRONG]}
    import_file(store, "preference", jsonl(row), BASE)
    assert [roles_of(trace) for trace in store.traces()] == [["system", "user"]] * 2


def test_what_the_conversations_share_is_the_prompt(store: Store) -> None:
    row = {"chosen": [*ASK, *RIGHT, *MORE, *LIMA], "rejected": [*ASK, *RIGHT, *MORE, *ROME]}
    import_file(store, "preference", jsonl(row), BASE)
    assert taught(store) == [("win", "And of Peru?", "Lima"), ("lose", "And of Peru?", "Rome")]
    assert roles_of(store.traces()[0]) == ["user", "assistant", "user"]


def test_several_turns_are_a_pair_and_answers_that_stand_alone(store: Store) -> None:
    row = {"prompt": ASK, "chosen": [*RIGHT, *MORE, *LIMA], "rejected": [*WRONG, *MORE, *ROME]}
    assert import_file(store, "preference", jsonl(row), BASE).added == 3
    assert taught(store) == [*PAIR, ("win", "And of Peru?", "Lima"), ("lose", "And of Peru?", "Rome")]
    after_right, after_wrong = store.traces()[2:]
    assert after_right.prompt[1]["content"] == "Oslo" and after_wrong.prompt[1]["content"] == "Cairo"


@pytest.mark.parametrize(("label", "side"), [(True, "win"), (1, "win"), (1.0, "win"), (False, "lose"), (0, "lose")])
@pytest.mark.parametrize("row", [{"prompt": ASK, "completion": RIGHT}, {"completion": [*ASK, *RIGHT]}])
def test_kto_labels_are_true_and_false_or_1_and_0(store: Store, row: dict[str, Any], label: Any, side: str) -> None:
    import_file(store, "kto", jsonl({**row, "label": label}), BASE)
    assert taught(store) == [(side, "Capital of Norway?", "Oslo")]


# -- kinds of files ----------------------------------------------------------------------------------------------------


def parquet(rows: list[dict[str, Any]]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as files

    out = io.BytesIO()
    files.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


def test_a_byte_order_mark_an_array_and_parquet_are_read(open_store: Callable[[], Store]) -> None:
    conversational = [{"chosen": [*ASK, *RIGHT], "rejected": [*ASK, *WRONG]}]
    for content, count in (
        (b"\xef\xbb\xbf" + jsonl(*GOOD), 3),
        (json.dumps(GOOD, indent=2).encode(), 3),
        (b"\xef\xbb\xbf \n" + json.dumps(GOOD).encode(), 3),
        (jsonl(*GOOD).replace(b"\n", b"\r\n"), 3),
        (parquet(GOOD), 3),
        (parquet(conversational), 1),
        (b"", 0),
        (b"[]", 0),
    ):
        store = open_store()
        assert import_file(store, "preference", content, BASE).added == count
        assert len(store.traces()) == 2 * count


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("x".encode("utf-16"), "the file is not UTF-8"),
        (b"PAR1 and no more", "a damaged Parquet file"),
        (json.dumps([*GOOD, 7]).encode(), r"item 4 is not a JSON object \(a number\)"),
        (
            json.dumps([GOOD[0], {**GOOD[1], "chosen": ""}]).encode(),
            "item 2 is not of the format preference: chosen is",
        ),
        (b"[" * 100_000, "line 1 is not a JSON object, and the file is not a JSON array either"),
        (b"[]\n" + jsonl(GOOD[0]), r"line 1 is not a JSON object \(a list\)"),
    ],
)
def test_a_file_that_cannot_be_read_says_so(store: Store, content: bytes, sentence: str) -> None:
    with pytest.raises(ImportRefused, match=sentence + ".*nothing was imported"):
        import_file(store, "preference", content, BASE)
    assert store.traces() == []


def test_a_small_parquet_file_that_unpacks_into_much_text_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One long text that every row repeats takes the room of one in the file, and in what it says of its size."""
    monkeypatch.setattr(feedback_import, "MAX_PARQUET_BYTES", 3_000_000)
    content = parquet([{"prompt": "What is an owl?", "completion": "a" * 100_000, "label": True}] * 50)
    assert len(content) < 100_000
    with pytest.raises(ImportRefused, match="holds more than 3,000,000 characters; nothing was imported"):
        import_file(store, "kto", content, BASE)
    monkeypatch.setattr(feedback_import, "MAX_LINE_CHARACTERS", 1000)
    monkeypatch.setattr(feedback_import, "MAX_PARQUET_BYTES", 10_000_000)
    with pytest.raises(ImportRefused, match=r"row 1 is not a JSON object \(too long\)"):
        import_file(store, "kto", content, BASE)
    assert store.traces() == []


def test_a_bad_row_of_parquet_is_named_and_a_half_written_last_line_can_be_skipped(store: Store) -> None:
    with pytest.raises(ImportRefused, match="row 2 is not of the format preference: chosen is empty"):
        import_file(store, "preference", parquet([GOOD[0], {**GOOD[1], "chosen": ""}]), BASE)
    done = import_file(store, "preference", jsonl(*GOOD)[:-20], BASE, skip_bad=True)
    assert done.added == 2 and [s.place for s in done.skipped] == ["line 3"]


def test_events_are_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(SpearError, match="whole or not at all"):
        import_file(store, "events", b"", BASE, skip_bad=True)


# -- there and back ----------------------------------------------------------------------------------------------------


def converse(store: Store) -> None:
    """Two users, branches, a revision, an edit, a cut reply, thoughts, two who say the same, one who changed their mind."""
    for user in ("anna", "ben"):
        talk = store.create_conversation("Capitals", user=user)
        store.add_message(talk.id, "system", "Be brief.")
        question = store.add_message(talk.id, "user", "Capital of Norway?")
        first = store.add_message(talk.id, "assistant", "<think>It may be Cairo.</think>Cairo", parent_id=question.id)
        other = store.add_message(talk.id, "assistant", "Oslo, which", parent_id=question.id, adapter_version=2)
        again = store.add_message(talk.id, "user", "And of Peru?", parent_id=first.id)
        reply = store.add_message(talk.id, "assistant", "Rome", parent_id=again.id)
        revision = store.add_message(
            talk.id, "assistant", "Lima", kind="revision", parent_id=again.id, revises_id=reply.id, hint="no, Lima"
        )
        store.add_message(talk.id, "assistant", "Lima!", kind="edit", parent_id=again.id, revises_id=reply.id)
        store.set_verdict(revision.id, "still_wrong")
        store.set_verdict(revision.id, "better")
        store.set_vote(first.id, -1)
        store.set_vote(other.id, 1)
        store.add_hint(reply.id, "no, Lima")
        store.set_leaf(talk.id, other.id)
        row = {"prompt": ASK, "chosen": RIGHT, "rejected": WRONG, "spear": {"source": "confirmed"}}
        import_file(store, "preference", jsonl(row), f"base of {user}", user)


@pytest.mark.parametrize("format_", FORMATS)
def test_export_import_export_is_the_identity(open_store: Callable[[], Store], format_: str) -> None:
    here, there, third = open_store(), open_store(), open_store()
    converse(here)
    said = list(export_lines(here, format_, Wanted()))
    assert len(said) >= 2
    import_file(there, format_, "".join(said).encode(), BASE)
    assert list(export_lines(there, format_, Wanted())) == said
    import_file(third, format_, "".join(export_lines(there, format_, Wanted())).encode(), BASE)
    assert list(export_lines(third, format_, Wanted())) == said
    assert import_file(there, format_, "".join(said).encode(), BASE).added == 0, "a second time nothing is new"
    if format_ == "events":
        assert [c.user for c in there.conversations()] == [c.user for c in here.conversations()]
        for conversation in here.conversations():
            assert there.messages(conversation.id) == here.messages(conversation.id)
            assert there.leaf(conversation.id) == here.leaf(conversation.id)


def test_a_conversation_that_was_learned_and_deleted_comes_back(store: Store) -> None:
    harness = StoreHarness(store)
    taught, other = harness.talk("Capital of Norway?"), harness.talk("Capital of Peru?")
    for talk in (taught, other):
        talk.add("win")
    harness.promoted()
    said = "".join(export_lines(store, "events", Wanted())).encode()
    store.delete_conversation(taught.conversation_id)
    (learned,) = [t for t in store.traces(status="trained") if t.conversation_id is None]
    assert import_file(store, "events", said, BASE).added == 1
    (back,) = store.traces(subject_id=taught.reply.id)
    assert (back.conversation_id, back.status) == (taught.conversation_id, "pending") and back.id != learned.id
    assert learned in store.traces(), "what the adapter was taught is still known"


# -- any file of TRL's shapes ------------------------------------------------------------------------------------------

WORDS = st.text(min_size=1, max_size=12).filter(lambda text: text.strip() and "\x00" not in text)
CONTENT = WORDS | st.lists(WORDS.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=3)


def says(role: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"role": st.just(role), "content": CONTENT})


TURNS = st.lists(st.tuples(says("user"), says("assistant")), max_size=2).map(lambda t: [m for turn in t for m in turn])
HEAD = st.lists(says("system") | says("developer"), max_size=1)
# Answers of different words: what differs in case or final stops only is the same answer
OTHER = st.sampled_from([("red", "blue"), ("Oslo", "Cairo"), ("1", "2")])


@st.composite
def preference_rows(draw: st.DrawFn) -> dict[str, Any]:
    question = draw(says("user"))
    context = [*draw(HEAD), *draw(TURNS), question]
    right, wrong = draw(OTHER)
    chosen = [{"role": "assistant", "content": right}, *draw(TURNS)]
    rejected = [{"role": "assistant", "content": wrong}, *draw(TURNS)]
    match draw(st.sampled_from(["standard", "explicit", "implicit", "both"])):
        case "standard":
            return {"prompt": draw(WORDS), "chosen": right, "rejected": wrong}
        case "explicit":
            return {"prompt": context, "chosen": chosen, "rejected": rejected}
        case "implicit":
            return {"chosen": [*context, *chosen], "rejected": [*context, *rejected]}
        case _:
            return {"prompt": context, "chosen": [*context, *chosen], "rejected": [*context, *rejected]}


@st.composite
def kto_rows(draw: st.DrawFn) -> dict[str, Any]:
    label = draw(st.sampled_from([True, False, 1, 0]))
    if draw(st.booleans()):
        return {"prompt": draw(WORDS), "completion": draw(WORDS), "label": label}
    return {
        "prompt": [*draw(HEAD), *draw(TURNS), draw(says("user"))],
        "completion": [draw(says("assistant"))],
        "label": label,
    }


ROWS = {"preference": preference_rows(), "kto": kto_rows()}
SPOILED: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
    lambda row: {k: v for k, v in row.items() if k not in ("chosen", "completion")},
    lambda row: {k: (" " if k in ("chosen", "completion") else v) for k, v in row.items()},
    lambda row: {k: ([] if k in ("rejected", "completion") else v) for k, v in row.items()},
    lambda row: {**row, "prompt": 7},
    lambda row: {**row, "spear": {"confidence": 0}},
    lambda row: {**row, "tools": [{"type": "function"}]},
    lambda row: {
        k: ([{"role": "tool", "content": "x"}] if k in ("chosen", "completion") else v) for k, v in row.items()
    },
]


@pytest.mark.slow
@pytest.mark.parametrize("format_", sorted(ROWS))
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_valid_files_import_and_reexport_and_invalid_ones_name_their_line(format_: str, data: st.DataObject) -> None:
    rows = data.draw(st.lists(ROWS[format_], min_size=1, max_size=4))
    with TemporaryDirectory() as folder, Store(Path(folder) / "store.sqlite3") as store:
        done = import_file(store, format_, jsonl(*rows), BASE)
        assert done.added > 0 and not done.skipped
        wins, loses = store.count_pending(BASE)
        assert wins + loses == len(store.traces()) > 0
        assert all(t.completion.strip() and t.prompt[-1]["role"] == "user" for t in store.traces())
        assert import_file(store, format_, jsonl(*rows), BASE).added == 0
    at = data.draw(st.integers(0, len(rows) - 1))
    spoiled = [*rows[:at], data.draw(st.sampled_from(SPOILED))(rows[at]), *rows[at + 1 :]]
    with TemporaryDirectory() as folder, Store(Path(folder) / "store.sqlite3") as store:
        with pytest.raises(ImportRefused) as refusal:
            import_file(store, format_, jsonl(*spoiled), BASE)
        assert re.match(rf"line {at + 1} is not of the format {format_}: .*; nothing was imported$", str(refusal.value))
        assert store.traces() == [] and store.conversations() == []
        done = import_file(store, format_, jsonl(*spoiled), BASE, skip_bad=True)
        assert [s.place for s in done.skipped] == [f"line {at + 1}"]
