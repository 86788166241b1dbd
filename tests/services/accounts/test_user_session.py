"""What a guest is not shown, and what an owner sees of others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from feedback_store import UserStore
from services.accounts.users_file import User
from services.app import AppServices
from services.models.downloads import DownloadView
from services.user_session import UserModels, UserSessions
from tests.faults.quick import open_quick
from tests.feedback_store.harness import StoreHarness

ANNA, BEN = User("anna", "owner"), User("ben", "guest")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppServices]:
    services = open_quick(tmp_path / "data")
    yield services
    services.close()


def teach(app: AppServices, user: User, times: int) -> list[str]:
    """Ids of replies that this user corrected, oldest first."""
    harness = StoreHarness(UserStore(app.engine.store, user.id))
    talks = [harness.talk(f"Question {i}?") for i in range(times)]
    for talk in talks:
        talk.add("win", base=app.engine.base)
    return [talk.reply.id for talk in talks]


def test_an_owners_own_corrections_take_no_place_in_the_list_of_others(app: AppServices) -> None:
    of_ben = teach(app, BEN, 3)
    teach(app, ANNA, 3)
    learning = UserSessions(app).of(ANNA).learning
    assert [view.message_id for view in learning.learned_by_others(2)] == of_ben[:0:-1]
    assert [view.message_id for view in learning.learned_by_others(9)] == of_ben[::-1]
    assert {(view.user, view.question, view.right) for view in learning.learned_by_others()} == {("ben", "", "")}


class Models:
    """Models of which one was downloaded."""

    def __init__(self, app: AppServices, folder: str) -> None:
        first, *rest = app.models.recommended()
        self.listed = [replace(first, folder=folder), *rest]
        self.view = DownloadView("failed", folder=folder, sentence=f"The download stopped (no space: {folder}).")

    def recommended(self) -> object:
        return self.listed

    def download_view(self) -> DownloadView:
        return self.view


def test_guests_see_that_a_model_was_downloaded_and_not_where_to(app: AppServices) -> None:
    models = Models(app, "/home/anna/data/models/Qwen--Qwen3-0.6B")
    of_anna, of_ben = (UserModels(models, user) for user in (ANNA, BEN))  # type: ignore[arg-type]
    assert of_anna.recommended() == models.listed and of_anna.download_view() == models.view
    assert [model.folder for model in of_ben.recommended()][:2] == ["Qwen--Qwen3-0.6B", ""]
    assert "/home/anna" not in repr((of_ben.recommended(), of_ben.download_view()))
