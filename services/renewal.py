"""After others may have read this instance's files: end what they could use, all at once. The app must not run."""

from __future__ import annotations

from pathlib import Path

from federation.identity import KEY_FILE, renew_identity
from services.accounts.users_file import renew_secret
from services.data.backups import PEERS_FOLDER, in_use


def renew(data_folder: Path, auth_file: Path | None) -> str:
    """End every session and make a new peer key. Returns the new key, which peers must approve.

    Raises SpearError where the app runs or a file cannot be written; without `auth_file` there are no sessions.
    """
    with in_use(data_folder, alone=True):  # a running app has its key in memory
        if auth_file:
            renew_secret(auth_file)
        return renew_identity(data_folder / PEERS_FOLDER / KEY_FILE).public.text
