"""What a killed app had begun and acknowledged, and what must therefore be found after its restart. No services.

An entry is a plain dict. `do` is "try" before an act and "ack" once the app has answered; `what` is:
- "say": a word about the reply `reply`, which leaves the vote `vote` and the traces `traces`, a list of "side source";
- "revision": the message `message` with the text `text` was shown;
- "version": what serves changes; its acknowledgement carries `version`;
- "backup": its acknowledgement carries `path`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Word:
    """What is stored about one reply: its vote, the traces that were not withdrawn, and how often a vote was cast."""

    vote: int
    traces: tuple[str, ...]
    votes_cast: int


UNSAID = Word(0, (), 0)


def read_ledger(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def allowed_words(entries: Sequence[Entry]) -> dict[str, list[Word]]:
    """Reply -> the states that it may be in: that of the last acknowledged word, or of the one begun after it."""
    allowed: dict[str, list[Word]] = {}
    for entry in entries:
        if entry["what"] != "say":
            continue
        before = allowed.get(entry["reply"], [UNSAID])
        acknowledged = before[0]
        changed = entry["vote"] != acknowledged.vote
        new = Word(entry["vote"], tuple(sorted(entry["traces"])), acknowledged.votes_cast + changed)
        allowed[entry["reply"]] = [new] if entry["do"] == "ack" else [acknowledged, new]
    return allowed


def settled(entries: Sequence[Entry], found: Mapping[str, Word]) -> list[Entry]:
    """The ledger with what was begun, and turned out to be stored, as if it had been acknowledged."""
    out = list(entries)
    for reply, states in allowed_words(entries).items():
        if len(states) == 2 and found.get(reply) == states[1]:
            begun = next(e for e in reversed(out) if e["what"] == "say" and e["reply"] == reply)
            out.append({**begun, "do": "ack"})
    return out


def of_kind(entries: Iterable[Entry], what: str, do: str = "ack") -> list[Entry]:
    return [e for e in entries if e["what"] == what and e["do"] == do]
