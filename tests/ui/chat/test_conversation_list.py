"""The list of conversations: newest first under the days on which they began."""

from __future__ import annotations

import re
from datetime import date

from services.views import ConversationView
from ui.chat.conversation_list import list_html

TODAY = date(2026, 11, 28)


def test_conversations_stand_under_the_days_on_which_they_began() -> None:
    days = ["2026-11-28", "2026-11-28", "2026-11-27", "2026-11-23", "2026-11-02", "2026-09-15", "2025-09-15"]
    talks = [ConversationView(str(i), f"Talk {i}", True, f"{day}T12:00:00+00:00") for i, day in enumerate(days)]
    html = list_html(talks, "3", today=TODAY)
    assert re.findall(r"<h3>([^<]*)</h3>", html) == [
        "Today", "Yesterday", "Last 7 days", "Last 30 days", "September 2026", "September 2025",
    ]  # fmt: skip
    assert re.findall(r'data-id="(\d)"', html) == list("0123456")
    assert html.count("aria-current") == 1


def test_a_long_list_shows_its_newest_and_offers_more() -> None:
    talks = [ConversationView(str(i), f"Talk {i}", True, "2026-11-28T12:00:00+00:00") for i in range(4)]
    assert re.findall(r'data-id="(\d)"', list_html(talks, None, count=3)) == list("012")
    assert "Show more" in list_html(talks, None, count=3) and "Show more" not in list_html(talks, None, count=4)


def test_an_empty_list_says_why() -> None:
    assert "will appear here" in list_html([], None)
    assert "No conversation contains" in list_html([], None, "owl")
