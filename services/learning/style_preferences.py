"""Style preferences: a change of form that was confirmed on several questions applies to all answers. No storage.

A change of form only adds words, only removes words, or only changes case and punctuation, and the hint is not part of the
revision ("shorter"). A correction of a fact replaces words, or is in the revision as it was said ("at noon"). Once STANDING
different questions have the same change, anchors use the base model's answer with the hint in its context (context
distillation) in place of its plain answer. So the preference reaches questions that were not corrected, and facts stay as
they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spear_core.training.neighbours import content_words, words_of
from spear_core.training.traces import Messages

STANDING = 3  # different questions that a change of form needs to become a preference
MOST_PREFERENCES = 2  # in force at the same time; the newest


@dataclass(frozen=True)
class GrantedPreference:
    """A reply, the hint on it, and the revision that the person confirmed."""

    question: str
    first: str
    hint: str
    revision: str


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def change_of_form(first: str, revision: str) -> tuple[str, frozenset[str]] | None:
    """The kind of a change of form and the words it added; None where words were replaced or nothing changed.

    The kind is `drops`, `adds` or `same words` (only case or punctuation changed).
    """
    words_before, words_after = _words(first), _words(revision)
    if " ".join(first.split()) == " ".join(revision.split()) or not words_after:
        return None
    if words_before == words_after:
        return "same words", frozenset()
    before, after = Counter(words_before), Counter(words_after)
    if after < before:
        return "drops", frozenset()
    if before < after:
        return "adds", frozenset(after - before)
    return None


def standing_preferences(granted: Sequence[GrantedPreference]) -> list[str]:
    """The hints that are preferences by now, oldest first. `granted` is oldest first.

    Additions count as the same preference while they have a word in common; its newest hint stands for it.
    """
    groups: list[tuple[str, frozenset[str], dict[str, None], str]] = []  # kind, common words, questions, newest hint
    for g in granted:
        change = change_of_form(g.first, g.revision)
        said = content_words(g.hint) or words_of(g.hint)
        if change is None or set(said) <= set(words_of(g.revision)):
            continue
        kind, added = change
        common, questions = added, {g.question: None}
        for old in [o for o in groups if o[0] == kind and (kind != "adds" or o[1] & added)]:
            groups.remove(old)
            common = old[1] & common if kind == "adds" else common
            questions = old[2] | questions
        groups.append((kind, common, questions, g.hint.strip()))
    return [hint for _, _, questions, hint in groups if len(questions) >= STANDING][-MOST_PREFERENCES:]


Revise = Callable[[list[tuple[Messages, list[tuple[str, str | None]]]]], list[str]]


def preferences_for(
    said: Sequence[tuple[Messages, str]], style_preferences: Sequence[str], revise: Revise
) -> list[tuple[list[tuple[str, str | None]], str]]:
    """Answers in the preferred form.

    Args:
        said: (prompt, answer) pairs of the base model.
        style_preferences: hints, oldest first.
        revise: asks the base model for greedy revisions, given prompts with their attempts.

    Returns:
        For each pair the attempts that lead to the preferred form, and the answer in it. The attempts are empty, and the
        answer is the plain one, where the revision would replace words.
    """
    attempts: list[list[tuple[str, str | None]]] = [[] for _ in said]
    answers = [answer for _, answer in said]
    for hint in style_preferences:
        tried = [[*attempts[i], (answers[i], hint)] for i in range(len(said))]
        revised = revise([(prompt, tried[i]) for i, (prompt, _) in enumerate(said)])
        for i, text in enumerate(revised):
            if change_of_form(answers[i], text) is not None:
                attempts[i], answers[i] = tried[i], text
    return list(zip(attempts, answers, strict=True))
