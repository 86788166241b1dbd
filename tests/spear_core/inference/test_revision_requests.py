"""How a revision is asked for, and what of it is wording of the request."""

from __future__ import annotations

import dataclasses

import pytest

from spear_core.inference.hints import HintKind
from spear_core.inference.revision_requests import request_messages, stated, without_introduction
from spear_core.models.settings import ModelSettings

PROMPT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Describe the sea."}]


@pytest.mark.parametrize(
    "introduction",
    [
        "Here's a revised version of your text:\n\n",
        "Here is a shorter version: ",
        "Sure! Here's the improved answer:\n",
        "Certainly, here is the rewritten text in French:\n\n",
    ],
)
def test_an_introduction_is_never_shown(introduction: str) -> None:
    whole = introduction + "The sea is blue."
    grown = [without_introduction(whole[:n], is_over=False) for n in range(1, len(whole) + 1)]
    assert all("The sea is blue.".startswith(text) for text in grown) and grown[-1] == "The sea is blue."
    assert without_introduction(whole, is_over=True) == "The sea is blue."


def test_words_that_only_look_like_one_stay() -> None:
    text = "Here is the sea: it is blue."
    assert without_introduction(text, is_over=True) == text
    assert without_introduction("Here", is_over=True) == "Here"
    assert without_introduction("Here is a shorter version:", is_over=True) == "Here is a shorter version:"
    assert without_introduction("Sure thing.", is_over=True) == "Sure thing."


def test_quotation_marks_around_the_whole_go_with_the_introduction() -> None:
    assert without_introduction('Here is a shorter version:\n"The sea."', is_over=True) == "The sea."


def test_another_form_is_asked_for_with_the_text_alone_and_the_system_prompt() -> None:
    asked = request_messages(PROMPT, [("The sea is a realm.", "use simpler words")], ModelSettings())
    assert asked[0] == PROMPT[0] and len(asked) == 2
    assert asked[1]["content"] == "The sea is a realm.\n\nRewrite the text above. Use simpler words."


def test_other_hints_and_models_with_a_request_of_their_own_get_the_conversation() -> None:
    settings = ModelSettings(revise_with_hint="Better: {hint}")
    for hint, wording in (
        ("wrong sea", settings),
        ("use simpler words", dataclasses.replace(settings, revise_by_request_only=True)),
    ):
        asked = request_messages(PROMPT, [("The sea.", hint)], wording)
        assert [m["role"] for m in asked] == ["system", "user", "assistant", "user"]
        assert asked[-1]["content"] == f"Better: {hint}"


def test_an_objection_leaves_the_answer_stated_that_was_stated_before() -> None:
    found = stated([("Bergen.", "no, oslo"), ("Bergen!", "no")], "What is the capital of Norway?")
    assert found is not None and found.answer == "oslo" and found.kind is HintKind.STATES
    assert stated([("Bergen.", "no, oslo"), ("Oslo.", "in French please")], "What?") is None
    assert stated([("Bergen.", "no")], "What?") is None
