"""Ends all sessions and makes a new peer key after others may have read this instance's files. The app must not run.

Passwords and API keys are changed one by one: `users add`, `users revoke-keys`.
"""

from __future__ import annotations

from pathlib import Path

from federation.identity import KEY_FILE, renew_identity
from feedback_store import Store
from services.data.backups import DATABASE, PEERS_FOLDER, in_use


def renew(data_folder: Path) -> str:
    """End every session and make a new peer key. Returns the new key, which peers must approve.

    Raises SpearError or StoreError where the app runs or a file cannot be written.
    """
    with in_use(data_folder, alone=True):  # a running app has both in memory
        if (data_folder / DATABASE).is_file():
            with Store(data_folder / DATABASE) as store:
                store.end_all_sessions()
        return renew_identity(data_folder / PEERS_FOLDER / KEY_FILE).public.text
