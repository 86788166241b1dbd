"""Hostile words and records where they are stored, drawn, exported, imported and read as prompts; hostile names and zips."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feedback_store.errors import StoreError
from feedback_store.transfer import Wanted
from services.data import backups
from services.data.feedback_files import FORMATS, export_lines
from services.data.feedback_import import import_lines
from services.user_session import UserSession
from spear_core.errors import SpearError
from spear_core.models.prompts import revision_messages
from tests.faults.hostile_requests import OWN, AttackedApp, share_of_cases
from tests.faults.hostile_words import BOMBS, CONTROL, NUMBERS, PATHS, SHORT, VALUES, WORDS, to_text
from ui.chat import messages as m
from ui.chat.conversation_list import list_html
from ui.learning.lists import learned_html

STORED, IMPORTED, ZIPS, NAMES, PROMPTS = "stored words", "imports", "adapter zips", "names", "prompts"
AT = "2026-01-02T03:04:05+00:00"
RUNS = ("script", "iframe", "object", "embed", "style", "link", "meta", "base", "form", "img", "input", "foreignobject")


class Drawn(HTMLParser):
    """What HTML would do: the elements and attributes in it that run, load or take part in a form."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag in RUNS else []
        for name, value in attrs:
            is_link = name in ("href", "src", "xlink:href", "action", "formaction")
            if name.startswith("on") or name in ("style", "srcdoc", "srcset"):
                self.found.append(name)
            elif is_link and not (value or "").lower().startswith(("http://", "https://", "mailto:", "#")):
                self.found.append(f"{name}={value}")


def harm(html: str) -> list[str]:
    drawn = Drawn()
    drawn.feed(html)
    drawn.close()
    return drawn.found


def drawn(app: UserSession, conversation_id: str) -> str:
    """All that the page draws of a conversation."""
    views = app.chat.messages(conversation_id)
    rows = "".join(row["html"] for row in m.chat_value(views, conversation_id)["rows"])
    return rows + "".join(m.quote(view.text) for view in views)


@share_of_cases(0.03)
@given(words=st.lists(WORDS, min_size=4, max_size=4), turn=st.integers(0, 3))
def test_words_are_kept_drawn_and_exported_as_words(world: AttackedApp, words: list[str], turn: int) -> None:
    """A conversation with hostile questions, answers, system prompt, title, edit and hint, and everything made of it."""
    app = world.app("cora")
    question, answer, hint, title = words
    with world.watch.case(STORED):
        begun = app.store.begin_conversation(title if turn == 0 else "", [(question, answer)], learn=False)
        try:
            asked, reply = [message for message in app.store.messages(begun.id) if message.role != "system"]
            app.chat.rename(begun.id, title)
            app.store.add_hint(reply.id, hint)
            kept = reply.text
            assert kept == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in answer)
            try:
                if turn % 2:
                    app.feedback.edit(reply.id, hint)
                else:
                    app.feedback.like(reply.id)
            except SpearError as error:
                world.watch.refused(error)
            shown = drawn(app, begun.id) + list_html([app.chat.conversation(begun.id)], begun.id, title)
            entries = [e for e in app.learning.learned(50) if e.message_id == reply.id]
            assert not harm(shown + learned_html(entries)), harm(shown)
            shown.encode()  # no lone surrogates: the page could not be sent
            for line in export_lines(app.store, FORMATS[turn % 3], Wanted(since=begun.created_at_utc)):
                assert json.loads(line) and "\n" not in line[:-1]
                world.watch.silent_about(STORED, line.encode())
            assert begun.id in {c.id for c in app.chat.conversations(title)} or title.strip() not in title[:48]
        finally:
            app.store.delete_conversation(begun.id)


def record(type_: str, **fixed: Any) -> dict[str, Any]:
    return {"type": type_, **fixed}


MESSAGE = {
    "role": "user", "kind": "message", "text": "x", "parent_id": None, "revises_id": None, "hint": None, "verdict": None,
    "adapter_version": 0, "complete": 1, "created_at_utc": AT,
}  # fmt: skip
PROMPT = to_text([{"role": "user", "content": "x"}])
RECORDS = [
    record("conversation", id="NEW", title="t", learn=1, created_at_utc=AT, user="ben"),
    record("message", id="NEW-q", conversation_id="NEW", position=0, **MESSAGE),
    record("message", **{**MESSAGE, "id": "NEW-a", "conversation_id": "NEW", "position": 1, "role": "assistant", "parent_id": "NEW-q"}),
    record("vote", message_id="NEW-a", value=1, voted_at_utc=AT),
    record("hint", message_id="NEW-a", text="x", created_at_utc=AT),
    record("event", kind="vote", message_id="NEW-a", data='{"value": 1}', created_at_utc=AT),
    record("trace", id="NEW-t", side="win", conversation_id="NEW", message_id="NEW-a", subject_id="NEW-a", prompt=PROMPT,
           completion="x", confidence=1.0, source="liked", status="pending", base="BASE", created_at_utc=AT),
]  # fmt: skip
COLUMNS = sorted({key for said in RECORDS for key in said})
IDS = st.sampled_from(["BEN-0", "BEN-1", "BEN-2", "CORA-1", "NEW", "NEW-q", "NEW-a", "OTHER"])
DATA = VALUES.map(to_text) | st.sampled_from(
    ['[{"role": "user", "content": "\\ud800"}]', "[" * 20_000, '[["role", "content"]]']
)
TIMES = st.sampled_from(["0001-01-01T00:00:00+14:00", "2026-01-01", "9999-12-31T23:59:59-14:00", "x", AT])
SPOILT = st.tuples(st.integers(0, 6), st.sampled_from(COLUMNS), IDS | VALUES | NUMBERS | WORDS | DATA | TIMES)
_A_LINE = {"prompt": "x", "chosen": "y", "rejected": "z", "completion": "y", "label": True, "spear": {}}
LINES = st.lists(
    st.tuples(st.sampled_from([*_A_LINE, "x"]), VALUES | WORDS | NUMBERS)
    | st.tuples(
        st.just("spear"),
        st.builds(
            lambda k, v: {k: v},
            st.sampled_from(["source", "confidence", "status", "created_at_utc"]),
            VALUES | NUMBERS | TIMES,
        ),
    )
    | st.tuples(
        st.just("prompt"), st.builds(lambda r, c: [{"role": r, "content": c}], VALUES | st.just("user"), VALUES | WORDS)
    ),
    min_size=1,
    max_size=3,
).map(lambda said: to_text({**_A_LINE, **dict(said)}))


@share_of_cases(0.08)
@given(
    spoilt=st.lists(SPOILT, min_size=1, max_size=2),
    lines=st.lists(LINES | BOMBS.map(lambda b: b.decode("utf-8", "replace")), max_size=2),
    format_=st.sampled_from(["events", "events", "preference", "kto", "\x00"]),
)
@example(spoilt=[(2, "parent_id", "NEW-a")], lines=[], format_="events")  # goes round in circles
@example(spoilt=[(6, "subject_id", "BEN-4")], lines=[], format_="events")  # showed what ben was told
@example(
    spoilt=[(6, "prompt", '[{"role": "user", "content": "\\ud800"}]')], lines=[], format_="events"
)  # stopped learning
@example(spoilt=[(6, "prompt", '[{"role": "user", "content": {"a": 1}}]')], lines=[], format_="events")
@example(spoilt=[(6, "prompt", "[]")], lines=[], format_="events")
@example(spoilt=[(6, "completion", None)], lines=[], format_="events")
@example(spoilt=[(0, "title", None)], lines=[], format_="events")
@example(spoilt=[(1, "position", 10**30)], lines=[], format_="events")
@example(spoilt=[(5, "data", "[" * 20_000)], lines=[], format_="events")
@example(
    spoilt=[],
    lines=['{"prompt": "a", "chosen": "b", "rejected": "c", "spear": {"confidence": 1%s}}' % ("0" * 400)],
    format_="preference",
)
def test_an_import_is_taken_or_refused_whole_and_what_is_taken_can_be_shown_and_learned(
    world: AttackedApp, spoilt: list[tuple[int, str, Any]], lines: list[str], format_: str
) -> None:
    app, engine = world.app("anna"), world.server.app_services.engine
    records = [dict(said) for said in RECORDS]
    for at, column, value in spoilt:
        records[at][column] = value
    text = world.named("\n".join(map(to_text, records)).replace("BASE", engine.base)).replace(
        "NEW", f"new{world.watch.cases}"
    )
    given_lines = text.split("\n") if format_ == "events" else lines
    before, mine = world.victims_words(), {c.id for c in app.chat.conversations()}
    with world.watch.case(IMPORTED) as counted:
        try:
            import_lines(app.store, format_, given_lines, engine.base)
        except SpearError as error:
            world.watch.refused(error)
            assert {c.id for c in app.chat.conversations()} == mine
        new = [c for c in app.chat.conversations() if c.id not in mine]
        shown = list_html(new, None) + learned_html(app.learning.learned(20))
        for conversation in new:
            shown += drawn(app, conversation.id)
            for message in app.chat.messages(conversation.id):
                try:
                    app.chat.prompt_of(message.id)
                except SpearError as error:
                    world.watch.refused(error)
        assert not harm(shown), harm(shown)
        world.watch.silent_about(IMPORTED, shown.encode())
        taken = [t for t in app.store.traces(status="pending") if t.conversation_id in {c.id for c in new}]
        for trace in taken:
            engine.encoder.plain(trace.prompt, trace.completion)  # as a round reads it
        if world.victims_words() != before:
            counted.leaks += 1
            raise AssertionError("an import changed what another user said")
        for conversation in new:
            app.store.delete_conversation(conversation.id)


@pytest.fixture(scope="module")
def a_zip(world: AttackedApp) -> bytes:
    """A zip with the right names and rank, and weights that are none."""
    config = world.server.app_services.engine.config
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("v1/adapter_config.json", json.dumps({"r": config.lora_rank, "lora_alpha": config.lora_alpha}))
        out.writestr("v1/adapter_model.safetensors", bytes(range(256)) * 40)
    return packed.getvalue()


@share_of_cases(0.005)
@given(
    seed=st.integers(0, 2**32),
    config=BOMBS | VALUES.map(lambda v: to_text(v).encode()),
    how=st.integers(0, 3),
    name=PATHS,
)
def test_no_zip_is_unpacked_or_ends_in_more_than_a_sentence(
    world: AttackedApp, a_zip: bytes, seed: int, config: bytes, how: int, name: str
) -> None:
    rng, content = random.Random(seed), bytearray(a_zip)
    if how < 2:  # bits flipped, or cut off
        for _ in range(rng.randint(1, 20)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        content = content[: rng.randrange(len(content))] if how else content
    else:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as out:
            out.writestr("v1/" + name.replace("\ud800", "").replace("\udfff", ""), b"x")
            out.writestr("../adapter_config.json" if how == 3 else "adapter_config.json", config)
            out.writestr("adapter_model.safetensors", rng.randbytes(100))
        content = bytearray(packed.getvalue())
    path = world.folder.parent / "hostile.zip"
    path.write_bytes(content)
    with world.watch.case(ZIPS):
        try:
            world.app("anna").adapter_files.upload(path)
            raise AssertionError("a damaged adapter was taken")
        except SpearError as error:
            world.watch.refused(error)
    assert {p.name for p in world.folder.parent.iterdir()} <= {*OWN, "hostile.zip"}


@share_of_cases(0.05)
@given(name=PATHS | SHORT, which=st.integers(0, 3))
@example(name="a" * 300, which=1)
@example(name="~nobody/x", which=1)
@example(name="a\nb", which=1)
def test_no_name_of_a_backup_a_model_a_peer_or_a_user_leads_anywhere(world: AttackedApp, name: str, which: int) -> None:
    app = world.server.app_services
    with world.watch.case(NAMES):
        try:
            if which == 0:
                backups.find_backup(world.folder, name)
            elif which == 1:
                app.models.weigh(name)
            elif which == 2:
                app.sync.add(name)
            else:
                assert world.server.access.accounts is not None
                assert world.server.access.accounts.user(name) is None
                return
            raise AssertionError(f"{name!r} was taken")
        except (SpearError, StoreError) as error:
            world.watch.refused(error)


@share_of_cases(0.04)
@given(words=st.lists(SHORT, min_size=3, max_size=3), control=st.sampled_from(CONTROL))
def test_no_word_of_a_user_becomes_a_control_token(world: AttackedApp, words: list[str], control: str) -> None:
    """Question, reply and hint, in an ordinary prompt and in that of a revision: the template's marks are its own."""
    loaded = world.server.app_services.engine.loaded
    encoder = world.server.app_services.engine.encoder
    special = set(loaded.tokenizer.all_special_ids) | set(loaded.tokenizer.added_tokens_decoder)
    question, answer, hint = (text.replace("\ud800", "").replace("\udfff", "") + control for text in words)

    def marks(question: str, answer: str, hint: str) -> list[int]:
        prompt = [{"role": "user", "content": question}]
        asked = revision_messages(prompt, [(answer, hint)], loaded.settings)
        return [i for p in (prompt, asked) for i in encoder.plain(p, answer).prompt_ids if i in special]

    with world.watch.case(PROMPTS):
        found = marks(question, answer, hint)
        assert found and Counter(found) <= Counter(marks("a", "b", "c"))  # fewer where a long prompt is cut


def test_the_reader_of_html_sees_harm() -> None:
    assert (
        harm('<p onclick="x">')
        and harm("<SCRIPT>")
        and harm('<a href="javascript:x">')
        and not harm('<a href="http://x">')
    )
