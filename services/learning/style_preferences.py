"""Style preferences: the same wish about form, granted on several questions, applies to all answers. No storage.

A wish about form only adds words, only leaves words out, or only changes letters' case; a correction of a fact
replaces words. Where STANDING different questions carry the same change, what training holds the model to is no longer
the base model's plain answer but what the base model says when it is given the wish as a hint (context distillation):
so the wish reaches questions that nobody corrected, and the facts come along.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spear_core.training.traces import Messages

STANDING = 3  # different questions on which a wish was granted
MOST_WISHES = 2  # held to at the same time; the latest ones


@dataclass(frozen=True)
class GrantedPreference:
    """A reply, the hint about it, and the revision that the person confirmed."""

    question: str
    first: str
    hint: str
    revision: str


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[\w'-]+", text.lower()))


def change_of_form(first: str, revision: str) -> tuple[str, frozenset[str]] | None:
    """(`drops` | `adds` | `same words`, the words added); None where words were replaced or nothing changed."""
    before, after = _words(first), _words(revision)
    if " ".join(first.split()) == " ".join(revision.split()) or not after:
        return None
    if before == after:
        return "same words", frozenset()
    if after < before:
        return "drops", frozenset()
    if before < after:
        return "adds", frozenset(after - before)
    return None


def standing_preferences(granted: Sequence[GrantedPreference]) -> list[str]:
    """The hints that stand for all questions, oldest first. `granted` is oldest first.

    Additions are the same wish as long as they have a word in common. The newest hint speaks for its wish.
    """
    groups: list[tuple[str, frozenset[str], dict[str, None], str]] = []  # kind, common words, questions, newest hint
    for g in granted:
        change = change_of_form(g.first, g.revision)
        if change is None or not g.hint.strip():
            continue
        kind, added = change
        common, questions = added, {g.question: None}
        for old in [o for o in groups if o[0] == kind and (kind != "adds" or o[1] & added)]:
            groups.remove(old)
            common = old[1] & common if kind == "adds" else common
            questions = old[2] | questions
        groups.append((kind, common, questions, g.hint.strip()))
    return [hint for _, _, questions, hint in groups if len(questions) >= STANDING][-MOST_WISHES:]


Revise = Callable[[list[tuple[Messages, list[tuple[str, str | None]]]]], list[str]]


def preferences_for(
    said: Sequence[tuple[Messages, str]], style_preferences: Sequence[str], revise: Revise
) -> list[tuple[list[tuple[str, str | None]], str]]:
    """For each (prompt, answer): the attempts that lead to the wished-for form, and the answer in it.

    No attempts where the model's revision would replace words: then the plain answer stays. `revise` asks the base
    model for greedy revisions, given prompts with attempts.
    """
    attempts: list[list[tuple[str, str | None]]] = [[] for _ in said]
    answers = [answer for _, answer in said]
    for wish in style_preferences:
        tried = [[*attempts[i], (answers[i], wish)] for i in range(len(said))]
        revised = revise([(prompt, tried[i]) for i, (prompt, _) in enumerate(said)])
        for i, text in enumerate(revised):
            if change_of_form(answers[i], text) is not None:
                attempts[i], answers[i] = tried[i], text
    return list(zip(attempts, answers, strict=True))
