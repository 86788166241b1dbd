"""A conversation as a file."""

from __future__ import annotations

import json

import pytest

from services.chat.export import exported
from services.views import ConversationView, MessageView
from spear_core.errors import SpearError

MESSAGES = [
    MessageView("a", "c", "user", "message", "Äpfel & *Birnen*?"),
    MessageView("b", "c", "assistant", "message", "Nuts.", vote=-1, adapter_version=2, ending="ended"),
    MessageView("d", "c", "assistant", "revision", "Fruit.", revises="b", hint="no, fruit", verdict="better"),
    MessageView("e", "c", "assistant", "edit", "Both are fruit.", revises="b"),
]


def export(title: str, form: str, system: str = "") -> tuple[str, str]:
    view = ConversationView("c", title, True, "2026-11-28T10:00:00+00:00")
    found = exported(view, MESSAGES, system, "a-model", form)
    return found.name, found.content


def test_markdown_says_who_said_what_in_order() -> None:
    name, text = export("Fruit", "markdown", "Be brief.\nBe kind.")
    assert name == "Fruit.md"
    assert text == (
        "# Fruit\n\n2026-11-28, a-model\n\n**System prompt**\n\n> Be brief.\n> Be kind.\n\n"
        "## You\n\nÄpfel & *Birnen*?\n\n## Reply (v2)\n\nNuts.\n\n"
        "## Revision, confirmed\n\nFruit.\n\n## Your wording\n\nBoth are fruit.\n"
    )


def test_json_holds_the_words_and_what_was_said_about_them() -> None:
    name, text = export("Fruit", "json", "Be brief.")
    found = json.loads(text)
    assert name == "Fruit.json" and "Äpfel" in text
    assert (found["title"], found["system_prompt"], found["model"]) == ("Fruit", "Be brief.", "a-model")
    assert [(m["text"], m["vote"], m["verdict"], m["hint"]) for m in found["messages"]][1:3] == [
        ("Nuts.", "down", None, None),
        ("Fruit.", None, "better", "no, fruit"),
    ]


@pytest.mark.parametrize(
    ("title", "stem"), [("a/b: c?\n", "a b c"), ("..", "Conversation"), ("", "Conversation"), ("x" * 99, "x" * 60)]
)
def test_the_name_of_the_file_is_one_that_every_system_takes(title: str, stem: str) -> None:
    assert export(title, "json")[0] == f"{stem}.json"


def test_another_form_is_refused_in_a_sentence() -> None:
    with pytest.raises(SpearError, match="as markdown or json, not as 'pdf'"):
        export("Fruit", "pdf")
