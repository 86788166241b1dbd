"""The card of backups and the box in the dialog that forgets, over a real store with a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from server.current_user import Access
from services.accounts.permissions import NotAllowed
from services.accounts.users_file import Accounts, User, add_user
from services.app import AppServices
from services.data.backup_contents import BackupView
from services.user_session import UserSessions
from tests.faults.quick import open_quick, teach
from ui import errors as edge
from ui.learning.backups import LearningBackups, backups_html, erased_words
from ui.learning.corrections import LearningTab
from ui.visitor import Visitor

QUESTION = "What is a walrus?"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppServices]:
    started = open_quick(tmp_path / "data")
    yield started
    started.close()


@pytest.fixture
def visitor(app: AppServices) -> Visitor:
    """The services as the page has them, without logins."""
    return Visitor(Access(app, None))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    shown: list[str] = []
    monkeypatch.setattr(gr, "Info", lambda text, **more: shown.append(text))
    monkeypatch.setattr(edge.gr, "Warning", lambda text, **more: shown.append(text))
    return shown


def view(**changes: Any) -> BackupView:
    said = {"file": "a.tar", "bytes": 2_000_000, "made_at_utc": "2026-03-04T05:06:07+00:00", "conversations": 3}
    return BackupView(**{**said, "erased_conversations": 0, "erased_feedback": 0, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Holds nothing that was erased since."),
        ({"erased_conversations": 1}, "Still holds 1 deleted conversation."),
        ({"erased_conversations": 2, "erased_feedback": 1}, "2 deleted conversations and 1 forgotten feedback record."),
        ({"is_readable": False}, "may still hold what was erased"),
        ({"file": "<b>.tar"}, "&lt;b&gt;.tar"),
    ],
)
def test_each_backup_says_what_it_still_holds(changes: dict[str, Any], words: str) -> None:
    html = backups_html([view(**changes)])
    assert words in html and "04 Mar 2026, 05:06 UTC" in html and "2.0 MB" in html
    assert ('class="entry erased"' in html) == view(**changes).holds_erased


def test_the_card_backs_up_and_erases(app: AppServices, visitor: Visitor, said: list[str]) -> None:
    card = LearningBackups(visitor)
    assert "no backups" in card.redraw()[0]
    message_id = teach(app, QUESTION, "A tusked animal")
    html, erase = card.back_up()
    assert "Holds nothing" in html and not erase.visible
    app.learning.forget([message_id])
    html, erase = card.redraw()
    assert "forgotten feedback record" in html and erase.visible
    html, erase = card.erase_erased()
    assert "Holds nothing" in html and html.count("<li") == 1 and not erase.visible
    assert said[-1] == "A new backup was made, and 1 older one deleted."
    card.erase_erased()
    assert said[-1] == "No backup holds anything that was erased."


@pytest.mark.parametrize("is_for_backups", [False, True])
def test_forgetting_erases_from_backups_only_where_asked(
    app: AppServices, visitor: Visitor, said: list[str], is_for_backups: bool
) -> None:
    message_id = teach(app, QUESTION, "A tusked animal")
    old = app.backups.back_up()
    event = gr.EventData(None, {"id": message_id, "backups": is_for_backups})
    list(LearningTab(visitor).forget(event, 10))
    (left,) = app.backups.views()
    assert (left.file == old, left.holds_erased) == (not is_for_backups, not is_for_backups)
    assert (erased_words([old]) in said) == is_for_backups


def test_a_guest_sees_and_changes_no_backup(app: AppServices, tmp_path: Path, said: list[str]) -> None:
    add_user(tmp_path / "users.json", "ben", "guest", "a long password")
    ben = Accounts(tmp_path / "users.json").user("ben")
    assert isinstance(ben, User)
    session = UserSessions(app).of(ben)
    made = app.backups.back_up()
    for refused in (session.backups.views, session.backups.back_up, session.backups.erase):
        with pytest.raises(NotAllowed):
            refused()
    card = LearningBackups(session)  # type: ignore[arg-type]
    html, _ = card.redraw()
    assert made not in html
    card.back_up()
    assert said == ["Only an owner may see, make or delete backups; ask one of them."]
    assert len(app.backups.views()) == 1
