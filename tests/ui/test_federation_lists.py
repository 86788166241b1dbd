"""What the Federation tab says of what is sent."""

from __future__ import annotations

from services.peers.views import CircleView
from ui.federation.lists import self_html


def page(shares_questions: bool) -> str:
    return self_html(CircleView("f", "k", "", "1h", (), (), (), shares_questions))


def test_the_page_says_whether_taught_questions_are_sent() -> None:
    sent, not_sent = page(True), page(False)
    assert "the questions that it was taught" in sent and "Never sent:</b> answers" in sent
    assert "Taught questions</dt><dd>not sent" in not_sent and "Never sent:</b> what you or the model wrote" in not_sent
