"""Export of feedback as JSON lines for trainers. feedback_import.py reads them; the store finds the rows.

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
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from feedback_store import Store, Trace
from feedback_store.transfer import Wanted
from spear_core.errors import SpearError

FORMATS = ("preference", "kto", "events")
Line = dict[str, Any]


def check_format(name: str) -> str:
    """Raises SpearError for an unknown format."""
    if name not in FORMATS:
        raise SpearError(f"There is no format {name!r}; there are: {', '.join(FORMATS)}.")
    return name


def export_lines(store: Store, format_: str, wanted: Wanted) -> Iterator[str]:
    """JSON lines, oldest first. Raises SpearError for an unknown format."""
    writers: dict[str, Callable[[Store, Wanted], Iterator[Line]]] = {
        "preference": _preferences,
        "kto": _verdicts,
        "events": lambda store, wanted: store.exported_records(wanted),
    }
    return (json.dumps(line, ensure_ascii=False) + "\n" for line in writers[check_format(format_)](store, wanted))


def write_export(path: Path, lines: Iterable[str]) -> None:
    """Write a new file, completely or not at all. Raises SpearError where it exists or cannot be written."""
    part = path.parent / f".export-{secrets.token_hex(8)}.part"
    try:
        if os.path.lexists(path):  # before the lines are read, which may take long
            raise FileExistsError
        with part.open("x", encoding="utf-8", newline="\n") as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        _rename_to_new(part, path)
    except FileExistsError as e:
        raise SpearError(f"The file {path} is there already; an export never overwrites.") from e
    except OSError as e:
        raise SpearError(f"The file {path} cannot be written ({e.strerror or e}).") from e
    finally:
        with suppress(OSError):
            part.unlink()


def _rename_to_new(part: Path, path: Path) -> None:
    """Raises FileExistsError where the path exists by now."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError from None
        part.rename(path)


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
