"""The app that hostile input is sent to: one for a module."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest
import torch

from services.accounts.users_file import Accounts
from services.app import open_services
from services.settings import Settings
from tests.faults.hostile_requests import MARK, VICTIM, AttackedApp, Direct, Ears, Watch, secrets_of
from tests.pocket_model import FEW_ANCHORS, POCKET_MODEL
from tests.server.running import add_users, running

TURNS = [(f"My secret is {MARK}, what is an owl?", f"Your secret is {MARK}."), ("And you?", f"I am {MARK} too.")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedApp]:
    """ben has a conversation, a vote and an edit; cora has thirty conversations of her own. Nothing learns by itself."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("hostile")
    keys = add_users(folder / "users.json")
    settings = Settings(model=str(POCKET_MODEL), data_folder=folder / "data", spear=FEW_ANCHORS)
    app_services = open_services(settings, start_jobs=False)
    app_services.engine.store._db.execute("PRAGMA synchronous=OFF")  # what a power cut leaves is tested elsewhere
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        with running(app_services, Accounts(folder / "users.json"), keys) as server:
            watch, ears = Watch(secrets_of(server)), Ears(secrets_of(server))
            found = AttackedApp(server, Direct(server.app), watch, [], [])
            victim, guest = found.app(VICTIM), found.app("cora")
            begun = victim.store.begin_conversation("", TURNS, learn=True)
            messages = victim.store.messages(begun.id)
            victim.feedback.like(messages[1].id)
            victim.feedback.edit(messages[3].id, f"It is {MARK}.")
            found.of_victim.extend([begun.id, *(m.id for m in victim.store.messages(begun.id))])
            for i in range(30):
                mine = guest.store.begin_conversation("", [(f"Question {i}?", f"Answer {i}.")], learn=False)
                found.own.append(guest.store.messages(mine.id)[1].id)
            with ears.listening():
                yield found
                logging.getLogger("ui").debug("the hostile tests of this module are over")
            found.direct.close()
            watch.write()
            assert ears.heard and not ears.caught, ears.caught[:3]
    app_services.close()
