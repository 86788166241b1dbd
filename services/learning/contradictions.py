"""Corrections that contradict each other: the same or nearly the same question with another answer. Writes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from feedback_store import Trace
from feedback_store.records import TraceStatus
from services.views import ContradictionView
from spear_core.inference.pointing_back import leans_on_history
from spear_core.models.thoughts import answer_of
from spear_core.training.neighbours import STOP_WORDS, content_words, question_key, words_of
from spear_core.training.traces import Messages

if TYPE_CHECKING:
    from services.engine import Engine

LOOKED_AT = 2000  # the newest confirmed answers
# beside its content words: "from Oslo to Rome" is not "from Rome to Oslo", "your name" not "my name"
DIRECTIONS = frozenset(
    [
        "from",
        "to",
        "before",
        "after",
        "above",
        "below",
        "under",
        "over",
        "with",
        "without",
        "behind",
        "inside",
        "outside",
        "until",
        "since",
    ]
)
OTHERS = frozenset(
    ["your", "yours", "yourself", "he", "him", "his", "she", "her", "hers", "they", "them", "their", "theirs"]
)
DENIALS = frozenset({"no", "not", "never", "nobody", "nothing", "none"})
NUMBER = re.compile(r"\d+(?:[.:,]\d+)*")
NEW = 20  # of them that are compared with all earlier ones
MOST_CHARACTERS = 2000  # of a question; a longer text is a task. Of a longer answer the beginning is compared
STANDING: tuple[TraceStatus, ...] = ("pending", "claimed", "trained")  # of a trace that is learned or will be


class RecentContradictions:
    """The contradictions of the current base model, searched again only after a change."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._found: list[ContradictionView] = []
        self._found_for: tuple[Any, ...] = ()
        self._settled = 0  # how many were settled; part of what the search is cached by

    def found(self) -> list[ContradictionView]:
        """Recent corrections that contradict an earlier one that was not withdrawn, newest first."""
        store, base = self._engine.store, self._engine.base
        newest = store.traces(base=base, side="win", limit=1, newest_first=True)
        state = (base, store.active_version(base), [(t.id, t.status) for t in newest], self._settled)
        if self._found_for != state:  # the status card asks every second
            wins = [
                t
                for status in STANDING
                for t in store.traces(base=base, status=status, side="win", limit=LOOKED_AT, newest_first=True)
                if status != "trained" or store.stands(t.id)
            ]
            self._found = contradictions(sorted(wins, key=lambda t: t.seq))
            self._found_for = state
        return self._found

    def look_again(self) -> None:
        """Search again at the next call: a contradiction was settled."""
        self._settled += 1


def contradictions(wins: Sequence[Trace]) -> list[ContradictionView]:
    """Find contradictions among confirmed answers.

    Args:
        wins: oldest first; the NEW newest are compared with all earlier ones.

    Returns:
        One entry for each newer answer that contradicts an earlier one, newest first.
    """
    found = []
    said = [(trace, _key(trace.prompt)) for trace in wins if trace.source != "judged" and trace.subject_id]
    words = _Words()
    for place in range(len(said) - 1, max(-1, len(said) - 1 - NEW), -1):
        newer, key = said[place]
        earlier = next((t for t, k in reversed(said[:place]) if k == key and k and _differ(t, newer, words)), None)
        if earlier is not None:
            found.append(_view(earlier, newer))
    return found


def replaced(wins: Sequence[Trace]) -> set[str]:
    """Ids of the confirmed answers that the newest one to the same question contradicts.

    What was asked before in the conversation does not count where the question stands by itself.
    """
    same: dict[str, list[Trace]] = {}
    for trace in sorted(wins, key=lambda t: t.seq):
        if trace.source != "judged" and trace.subject_id and (key := _key(trace.prompt)):
            same.setdefault(key, []).append(trace)
    words = _Words()
    return {t.id for *earlier, newest in same.values() for t in earlier if _differ(t, newest, words)}


class _Words:
    """What answers tell beyond their questions; each text is read once, however often it is compared."""

    def __init__(self) -> None:
        self._words: dict[str, frozenset[str]] = {}

    def denies(self, trace: Trace) -> bool:
        return any(_is_denial(word) for word in self._of(answer_of(trace.completion)))

    def telling(self, trace: Trace, *questions: str) -> frozenset[str]:
        said = self._of(answer_of(trace.completion)) - STOP_WORDS - {"yes"}
        answer = frozenset(word for word in said if not _is_denial(word))
        known = [self._of(question) for question in questions]
        return answer.difference(*known) or answer - known[0]

    def _of(self, text: str) -> frozenset[str]:
        text = text[:MOST_CHARACTERS]
        if text not in self._words:
            words = {word for word in words_of(text) if not word.isdigit()}
            self._words[text] = frozenset(words | {_number(found) for found in NUMBER.findall(text)})
        return self._words[text]


def _key(prompt: Messages) -> str:
    """A key that is equal for prompts asking the same in similar words; empty for a long text, or one without content words.

    What came before counts only for a question that does not stand by itself ("And its capital?").
    """
    question = prompt[-1]["content"]
    key = question_key(question) if len(question) <= MOST_CHARACTERS else ""
    if key:
        key = " ".join([key, *_directions(question)])
    before = [m for m in prompt[:-1] if m["role"] != "system"] if leans_on_history(question) else []
    return json.dumps([before, key]) if key else ""


def _directions(question: str) -> list[str]:
    """What the content words leave out of a question and still makes it another one."""
    words = words_of(question)
    found = set(OTHERS.intersection(words))
    if {"are", "were"} & set(words) and "you" in words:
        found.add("your")
    content = frozenset(content_words(question))
    direction = ""
    for word in words:
        if word in DIRECTIONS:
            direction = word
        elif word in content:
            if direction and (direction != "to" or "from" in words):  # "to" is mostly of a verb
                found.add(f"{direction} {word}")
            direction = ""
    return sorted(found | {direction} - {"", "to"})


def _is_denial(word: str) -> bool:
    return word in DENIALS or word.endswith(("n't", "n’t"))


def _number(text: str) -> str:
    """The same text for 8:00 and 8, for 1,000 and 1000, and for 8.30 and 8:30."""
    return re.sub(r",(?=\d{3}\b)", "", text).replace(".", ":").removesuffix(":00")


def _differ(earlier: Trace, newer: Trace, words: _Words) -> bool:
    """Whether the answers differ in content, or one denies what the other says.

    An answer that only adds to the other does not contradict it.
    """
    if earlier.subject_id == newer.subject_id:
        return False  # newer feedback on the same reply replaces the older one
    questions = (newer.prompt[-1]["content"], earlier.prompt[-1]["content"])
    was, now = (words.telling(trace, *questions) for trace in (earlier, newer))
    if was == now:
        return words.denies(earlier) != words.denies(newer)
    return bool(was) and bool(now) and not (was <= now or now <= was)


def _view(earlier: Trace, newer: Trace) -> ContradictionView:
    assert earlier.subject_id is not None and newer.subject_id is not None  # `contradictions` keeps only these
    return ContradictionView(
        newer.subject_id,
        newer.prompt[-1]["content"],
        answer_of(newer.completion),
        earlier.subject_id,
        earlier.prompt[-1]["content"],
        answer_of(earlier.completion),
    )
