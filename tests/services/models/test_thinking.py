"""A thinking model in the app: its thoughts are folded away, no hint is about them, and thinking can be switched off."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.app import AppServices
from services.learning import labels
from services.learning.between_rounds import RoundUnderWay
from services.models.thinking import CHOSEN
from spear_core.errors import SpearError
from spear_core.models.prompts import encode_prompt
from tests.services.conftest import OpenBench
from tests.services.harness import ask
from tests.services.models.test_other_models import FREE
from tests.tiny_models import tiny_folder
from ui.chat.messages import chat_value, row

THOUGHT = "<think>\nThe user asks for a kind.\n</think>\n\nAn owl is a fish."
QUESTION = "What is an owl?"


@pytest.fixture
def app(open_app: OpenBench, tmp_path: Path) -> AppServices:
    return open_app(model=str(tiny_folder("qwen3", tmp_path / "model")), **FREE)


def thoughtful(app: AppServices, text: str = THOUGHT, ending: str = "ended") -> str:
    """The id of a reply with a thought; a random model writes none by itself."""
    reply = ask(app, QUESTION)
    app.engine.store.update_message(reply.id, text=text, ending=ending)
    return reply.id


def test_the_page_shows_the_answer_and_folds_the_thought_away(app: AppServices) -> None:
    message = app.chat.message(thoughtful(app))
    assert (message.thought, message.text) == ("The user asks for a kind.", "An owl is a fish.")
    html = row(message)
    assert '<details class="thought"><summary>Thoughts</summary>' in html and "&lt;think" not in html
    assert html.index("asks for a kind") < html.index("An owl is a fish")
    (copied,) = [r["text"] for r in chat_value([message])["rows"]]
    assert copied == "An owl is a fish."


def test_a_reply_that_ends_in_its_thought_says_that_there_is_no_answer(app: AppServices) -> None:
    message = app.chat.message(thoughtful(app, "<think>\nThe user", "length"))
    assert message.text == "" and "(no answer yet)" in row(message)
    app.feedback.like(message.id)
    assert app.engine.store.traces(base=app.engine.base) == [], "a cut is never taught"


def test_the_history_holds_the_thought_for_the_template_to_drop(app: AppServices) -> None:
    conversation = app.chat.message(thoughtful(app)).conversation_id
    ask(app, "Why?", conversation)
    last = app.chat.messages(conversation)[-1]
    prompt = app.chat.prompt_of(last.id)
    assert prompt[1]["content"] == THOUGHT
    tokenizer = app.engine.loaded.tokenizer
    expected = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    assert encode_prompt(tokenizer, prompt, max_tokens=200) == expected
    assert "asks for a kind" not in tokenizer.decode(expected)


def test_a_hint_corrects_the_answer_and_not_the_thought(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = thoughtful(app)
    revision = list(app.chat.revise(reply, "a bird"))[-1]
    assert "think>" not in app.engine.store.message(revision.id).text and revision.thought == ""
    assert "asks for" not in revision.text, "the refused reply's sentence is taken from its answer"
    app.feedback.better(revision.id)
    win, lose = sorted(app.engine.store.traces(base=app.engine.base, status="pending"), key=lambda t: t.side)[::-1]
    assert (win.side, win.completion) == ("win", revision.text)
    assert lose.completion == THOUGHT, "what the model said, as it said it"


def test_the_same_answer_after_another_thought_is_no_loser(app: AppServices) -> None:
    store = app.engine.store
    first = store.message(thoughtful(app))
    edited = app.feedback.edit(first.id, "<think>typed by a person</think>An owl is a fish.")
    assert edited.text == "An owl is a fish.", "only the model writes thoughts"
    right = store.message(edited.id)
    assert [t.side for t in labels.replaced("b", [], first, right, "edited")] == ["win"]
    with pytest.raises(SpearError, match="empty"):
        app.feedback.edit(first.id, "<think>nothing but this</think>")


def test_thinking_is_switched_off_and_stays_off_after_a_restart(open_app: OpenBench, tmp_path: Path) -> None:
    folder = str(tiny_folder("qwen3", tmp_path / "model"))
    app = open_app(model=folder, **FREE)
    assert app.models.thinks is True
    app.models.set_thinking(False)
    answers_without_thinking(app)
    app = open_app(model=folder, **FREE)
    answers_without_thinking(app)
    app.models.set_thinking(True)
    assert app.models.thinks is True


def test_what_a_round_under_way_keeps_from_being_switched_is_not_switched_at_the_next_start(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.learning.between_rounds.ROUND_WAIT_SECONDS", 0.01)
    with app.learning._round_lock, pytest.raises(RoundUnderWay):
        app.models.set_thinking(False)
    assert app.models.thinks is True and app.engine.store.setting(CHOSEN, {}) == {}


def answers_without_thinking(app: AppServices) -> None:
    assert app.models.thinks is False
    tokenizer = app.engine.encoder.tokenizer
    ids = encode_prompt(tokenizer, [{"role": "user", "content": QUESTION}], max_tokens=100)
    assert tokenizer.decode(ids).endswith("<think>\n\n</think>\n\n")
    assert tokenizer is app.engine.loaded.tokenizer
    assert ask(app, QUESTION).complete


def test_a_model_without_thoughts_has_no_switch(open_app: OpenBench, tmp_path: Path) -> None:
    app = open_app(model=str(tiny_folder("qwen2", tmp_path / "model")), **FREE)
    assert app.models.thinks is None
    with pytest.raises(SpearError, match="no switch"):
        app.models.set_thinking(False)
