"""What was taught, as the JSON lines that trainers read, and back. Text in, text out; the store finds and keeps the rows.

- preference: TRL's conversational preference format, https://huggingface.co/docs/trl/dataset_formats: `prompt` and
  `chosen` and `rejected` as lists of messages. Replies with a right and a rejected answer.
- kto: TRL's unpaired preference format: `prompt`, `completion`, `label`. Every right and every rejected answer.
- events: everything about whole conversations, a line a record: conversation, message, vote, hint, event, trace.

Beside what trainers read, a line of the first two carries `spear`: source, confidence, status and time, which an import
keeps. What was learned there is waiting here. Where a line, or the message in it, says by OpenAI's `finish_reason` that
an answer was cut off (`length`), that answer is not learned as a right one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from feedback_store import Store, Trace
from feedback_store.errors import StoreError
from feedback_store.records import SOURCES
from feedback_store.transfer import Example, Wanted
from services.chat.client_histories import History, Said, read_history
from spear_core.errors import SpearError

FORMATS = ("preference", "kto", "events")
MAX_LINE_CHARACTERS = 4_000_000
UNCHANGED = "; nothing was imported"
Line = dict[str, Any]


class ImportRefused(SpearError):
    """A line that cannot be read; nothing was imported."""


def check_format(name: str) -> str:
    """Raises SpearError for an unknown format."""
    if name not in FORMATS:
        raise SpearError(f"There is no format {name!r}; there are: {', '.join(FORMATS)}.")
    return name


def moment(text: str) -> str:
    """A date or time as the store writes times; one without a zone is UTC. Raises SpearError."""
    try:
        said = datetime.fromisoformat(text)
        said = said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter where the year 1 of another zone is no year of UTC
        raise SpearError(f"{text[:80]!r} is not a date or time; write 2026-03-04 or 2026-03-04T05:06:07.") from None
    return said.isoformat(timespec="microseconds")


# -- out ---------------------------------------------------------------------------------------------------------------


def export_lines(store: Store, format_: str, wanted: Wanted) -> Iterator[str]:
    """JSON lines, oldest first. Raises SpearError for an unknown format."""
    writers: dict[str, Callable[[Store, Wanted], Iterator[Line]]] = {
        "preference": _preferences,
        "kto": _verdicts,
        "events": lambda store, wanted: store.exported_records(wanted),
    }
    return (json.dumps(line, ensure_ascii=False) + "\n" for line in writers[check_format(format_)](store, wanted))


def _about(trace: Trace) -> Line:
    return {
        "source": trace.source,
        "confidence": trace.confidence,
        "status": trace.status,
        "created_at_utc": trace.created_at_utc,
    }


def _said(text: str) -> list[Line]:
    return [{"role": "assistant", "content": text}]


def _preferences(store: Store, wanted: Wanted) -> Iterator[Line]:
    """A right answer and the rejected one that was stored with it."""
    waiting: dict[tuple[str | None, str], list[Trace]] = {}  # wins by reply and source, until their loser comes
    for trace in store.exported_traces(wanted):
        key = trace.subject_id, trace.source
        if trace.side == "win":
            waiting.setdefault(key, []).append(trace)
        elif wins := waiting.pop(key, None):
            win = wins[-1]
            chosen, rejected = _said(win.completion), _said(trace.completion)
            yield {"prompt": trace.prompt, "chosen": chosen, "rejected": rejected, "spear": _about(win)}


def _verdicts(store: Store, wanted: Wanted) -> Iterator[Line]:
    for trace in store.exported_traces(wanted):
        label = trace.side == "win"
        yield {"prompt": trace.prompt, "completion": _said(trace.completion), "label": label, "spear": _about(trace)}


# -- in ----------------------------------------------------------------------------------------------------------------


def import_lines(store: Store, format_: str, lines: Iterable[str], base: str, user: str | None = None) -> int:
    """Put the lines of an export, or of any file of that format, in: all or none. Returns how many were new.

    Of examples, what is here already is left out; of events, conversations that are here already. `user` None: examples
    belong to nobody in particular, events to whose they were. Raises ImportRefused with the number of the line.
    """
    readers: dict[str, Callable[[Line], Example | None]] = {"preference": _preference, "kto": _verdict}
    found = list(_parsed(lines))
    if check_format(format_) == "events":
        try:
            return store.add_records([line for _, line in found], user)
        except StoreError as e:
            raise ImportRefused(f"{str(e).removesuffix(UNCHANGED)}{UNCHANGED}") from e
    examples = []
    for number, line in found:
        try:
            if example := readers[format_](line):
                examples.append(example)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SpearError) as e:
            said = f"{e} is missing" if isinstance(e, KeyError) else str(e)
            if isinstance(e, TypeError | AttributeError | OverflowError):  # Python's own words about a value
                said = "a value in it is of the wrong kind or size"
            raise ImportRefused(f"line {number} is not of the format {format_}: {said}; nothing was imported") from e
    return store.add_examples(examples, base, user or "")


def _parsed(lines: Iterable[str]) -> Iterator[tuple[int, Line]]:
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            if len(text) > MAX_LINE_CHARACTERS:
                raise ValueError("too long")
            line = json.loads(text)
            if not isinstance(line, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError) as e:
            raise ImportRefused(f"line {number} is not a JSON object ({e}); nothing was imported") from e
        yield number, line


def _preference(line: Line) -> Example | None:
    if _is_cut(line, "chosen"):
        return _example(line, None, _text(line["rejected"]), "unfixed", 0.5)
    return _example(line, _text(line["chosen"]), _text(line["rejected"]), "edited", 1.0)


def _verdict(line: Line) -> Example | None:
    said = _text(line["completion"])
    if not isinstance(line["label"], bool):
        raise ValueError("label must be true or false")
    if not line["label"]:
        return _example(line, None, said, "no_hint", 0.5)
    return None if _is_cut(line, "completion") else _example(line, said, None, "liked", 1.0)


def _is_cut(line: Line, key: str) -> bool:
    """Whether the line says, by OpenAI's `finish_reason`, that this answer did not end by itself: then it is no win."""
    said = line[key]
    message = said[0] if isinstance(said, list) and len(said) == 1 and isinstance(said[0], dict) else {}
    return message.get("finish_reason", line.get("finish_reason")) not in (None, "stop", "ended")


def _example(line: Line, right: str | None, wrong: str | None, source: str, confidence: float) -> Example:
    prompt = line["prompt"]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    history = _history([Said(_role(m["role"]), _text(m["content"])) for m in messages])
    about = line.get("spear") or {}
    example = Example(
        history.system,
        history.turns,
        history.question,
        right,
        wrong,
        _source(about.get("source", source)),
        _confidence(about.get("confidence", confidence)),
        is_withdrawn=about.get("status") == "withdrawn",
    )
    at = about.get("created_at_utc")
    return example if at is None else replace(example, created_at_utc=moment(at))


def _history(said: Sequence[Said]) -> History:
    """As it stands where question follows answer follows question, as in an export; anything else is put in order."""
    system = said[0].text if said and said[0].role == "system" else ""
    turns = list(said[bool(system) :])
    if len(turns) % 2 and [s.role for s in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        texts = [s.text for s in turns]
        return History(system, tuple(zip(texts[:-1:2], texts[1::2], strict=True)), texts[-1])
    return read_history(said)


def _role(role: str) -> str:
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"a message's role is system, user or assistant, not {role!r}")
    return role


def _text(said: str | Sequence[Line]) -> str:
    """A text, or, as trainers write it in conversations, a list with one message of the assistant."""
    if isinstance(said, str):
        return said
    (message,) = said
    content = message["content"]
    if not isinstance(content, str):
        raise ValueError("a message's content must be a text")
    return content


def _source(source: str) -> str:
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; there are: {', '.join(SOURCES)}")
    return source


def _confidence(value: float) -> float:
    if isinstance(value, bool) or not 0 < float(value) <= 1:
        raise ValueError(f"confidence {value!r} is not in (0, 1]")
    return float(value)
