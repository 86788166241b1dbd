"""Which words of an answer typed in small letters are names, as far as the question and the words tell. Text only.

Where they do not tell, the model decides between the variants (stated_answers.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from spear_core.inference.fact_questions import Asked, read_question
from spear_core.inference.hint_words import words_in

# In a description rather than a name: "his wife sabine", "a beagle called rex", "cinema with anna"
DESCRIBING = words_in("my your our his her its their a an with called named")


def asks_for_name(question: str) -> bool:
    """Whether a question asks what somebody or something is called."""
    asked = read_question(question)
    return asked is not None and asked.kind is Asked.NAME


def without_yes_or_no(answer: str) -> str:
    """The answer without the "yes" or "no" with which it begins."""
    return re.sub(r"^\W*(?:yes|no)\b\W*", "", answer, flags=re.I) or answer


def one_capital_each(typed: str, named: str) -> list[str]:
    """For each word that has a capital in `named`, `typed` with that capital alone."""
    words, other = typed.split(" "), named.split(" ")
    return [" ".join([*words[:i], other[i], *words[i + 1 :]]) for i in range(len(words)) if words[i] != other[i]]


def with_capitals(typed: str, variants: Sequence[str]) -> str:
    """`typed` with the capitals of all variants, and of a name after "called"."""
    text = "".join(next((variant[i] for variant in variants if variant[i] != c), c) for i, c in enumerate(typed))
    return re.sub(r"\b(?:called|named) \w", lambda match: match[0][:-1] + match[0][-1].upper(), text)
