"""A conversation below a thousand newer ones is opened, found, renamed and deleted as any other."""

from __future__ import annotations

import gradio as gr
import pytest

from services.app import AppServices
from tests.services.harness import ask
from ui.chat.drafts import Drafts
from ui.chat.handlers import ChatHandlers
from ui.long_lists import PAGE_LENGTH

BOXES = Drafts(), "", ""


@pytest.fixture
def old(app: AppServices) -> str:
    """The id of a conversation about Zanzibar."""
    conversation_id = ask(app, "Where is Zanzibar?").conversation_id
    with app.engine.store.transaction():
        for i in range(1000):
            app.engine.store.create_conversation(f"Number {i}")
    return conversation_id


@pytest.fixture
def do(app: AppServices) -> ChatHandlers:
    return ChatHandlers(app)  # type: ignore[arg-type]


def test_it_is_opened_by_its_id(do: ChatHandlers, old: str) -> None:
    event = gr.EventData(None, {"id": old})
    for shown in (
        do.open("", PAGE_LENGTH, *BOXES, event),
        do.restore(old, "", PAGE_LENGTH, *BOXES),
        do.settle(old, "", PAGE_LENGTH),
    ):
        assert "Zanzibar" in str(shown[0]) and shown[2] == old


def test_it_is_found_renamed_and_deleted(app: AppServices, do: ChatHandlers, old: str) -> None:
    assert [c.id for c in app.chat.conversations("zanzibar")] == [old]
    assert f'data-id="{old}"' in do.find(None, "zanzibar", PAGE_LENGTH)
    renamed = do.rename(None, "zanzibar", PAGE_LENGTH, gr.EventData(None, {"id": old, "title": "Islands"}))
    assert 'data-title="Islands"' in renamed
    _, listed, shown, *_ = do.delete(old, "zanzibar", PAGE_LENGTH, *BOXES, gr.EventData(None, {"id": old}))
    assert "No conversation contains" in listed and shown is None


def test_the_list_shows_more_until_it_is_there(do: ChatHandlers, old: str) -> None:
    listed, count = do.find(None, "", PAGE_LENGTH), PAGE_LENGTH
    while "Show more" in listed:
        assert listed.count("<li ") == count and f'data-id="{old}"' not in listed
        listed, count = do.show_more(None, "", count)
    assert listed.count("<li ") == 1001 and f'data-id="{old}"' in listed


def test_a_conversation_that_is_gone_shows_the_empty_page(do: ChatHandlers) -> None:
    assert do.settle("none", "", PAGE_LENGTH)[2] is None
