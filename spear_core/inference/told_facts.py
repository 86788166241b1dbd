"""What a person told of themselves earlier in the conversation, as the answer to a question about it. No model.

"My dog is called Bruno." answers "What is my dog called?". A small model that reads both seldom puts them together.
"""

from __future__ import annotations

import re

from spear_core.inference.fact_questions import read_question
from spear_core.inference.hints import HintKind, read_hint
from spear_core.inference.refusals import Fit, fit
from spear_core.training.traces import Messages

MOST_CHARACTERS = 300  # of a statement; what is longer says more than one thing
MOST_LOOKED_AT = 50  # of the newest messages
# "Hello! My name is Bo.", "My dog is called Bruno and I live in Bergen."
_STATEMENT_ENDS = re.compile(r"(?<=[.!;])\s+|,?\s+(?:and|but)\s+(?=(?:I|we|my|our)\b)", re.I)


def told_fact(prompt: Messages) -> str:
    """The newest statement of the person that answers the prompt's question about them; empty where there is none."""
    question = prompt[-1]["content"]
    asked = read_question(question)
    if asked is None or not asked.is_personal:
        return ""
    for message in prompt[-2 : -MOST_LOOKED_AT - 2 : -1]:
        text = message["content"].strip()
        if message["role"] != "user" or "?" in text or len(text) > MOST_CHARACTERS:
            continue
        for statement in reversed([part for part in _STATEMENT_ENDS.split(text) if part]):
            hint = read_hint(statement, question)
            if hint.kind is HintKind.STATES and fit(question, "", statement, hint, objection=False) is Fit.STATES:
                return statement
    return ""
