"""The line under the settings says that something was saved, and only then."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from services.app import AppServices
from spear_core.errors import SpearError
from ui import errors
from ui.chat.handlers import LEARNED, NOT_BEGUN, NOT_LEARNED, SAVED, ChatHandlers

SKIP = gr.skip()


@pytest.fixture
def do(app: AppServices) -> ChatHandlers:
    return ChatHandlers(app)  # type: ignore[arg-type]


def usual(app: AppServices) -> tuple[float, float, int]:
    sampling = app.chat.usual_sampling()
    return sampling.temperature, sampling.top_p, sampling.max_new_tokens


def test_the_prompt_of_all_conversations_is_said_to_be_saved_once(app: AppServices, do: ChatHandlers) -> None:
    assert do.set_told("Answer briefly. ") == SAVED and "Saved" in SAVED
    assert app.feedback.preferences.system_prompt == "Answer briefly."
    assert do.set_told("Answer briefly.") == SKIP, "the field was left unchanged"
    assert do.set_told("") == SAVED
    assert do.set_learn_unasked(True) == SAVED


def test_what_could_not_be_saved_is_not_said_to_be(
    app: AppServices, do: ChatHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise SpearError("The disk is full.")

    warned: list[str] = []
    monkeypatch.setattr(errors.gr, "Warning", warned.append)
    monkeypatch.setattr(type(app.feedback.preferences), "set_system_prompt", fails)
    assert do.set_told("Answer briefly.") == SKIP and warned == ["The disk is full."]


def test_settings_of_one_conversation_are_said_to_be_saved_or_to_wait_for_it(
    app: AppServices, do: ChatHandlers
) -> None:
    temperature, top_p, longest = usual(app)
    assert do.set_up(None, "", temperature, top_p, longest) == SKIP
    assert do.set_up(None, "In rhymes.", temperature, top_p, longest) == NOT_BEGUN
    assert do.set_learn(None, True) == NOT_BEGUN
    conversation = app.chat.new_conversation().id
    assert do.set_up(conversation, "In rhymes.", temperature, top_p, longest) == SAVED
    assert app.chat.system_prompt(conversation) == "In rhymes."
    assert do.set_up(conversation, "In rhymes.", temperature, top_p, longest) == SKIP
    assert do.set_up(conversation, "In rhymes.", 0.7, top_p, longest) == SAVED
    assert [do.set_learn(conversation, value) for value in (True, False)] == [NOT_LEARNED, LEARNED]
