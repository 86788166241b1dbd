"""Finds in backups what was forgotten or deleted since, and erases it there too."""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from feedback_store import Store
from feedback_store.maintenance import IDS
from services.data.backups import DATABASE, SCRATCH, back_up, backups
from services.engine import Engine
from spear_core.errors import SpearError


@dataclass(frozen=True)
class BackupView:
    """`erased_conversations` and `erased_feedback`: how many it holds that are not in the store any more.

    `is_readable` False: it is damaged and cannot be restored, but words may be in it all the same.
    """

    file: str
    bytes: int
    made_at_utc: str
    conversations: int
    erased_conversations: int
    erased_feedback: int
    is_readable: bool = True

    @property
    def holds_erased(self) -> bool:
        """Whether it holds what was erased since, or may hold it."""
        return bool(self.erased_conversations or self.erased_feedback) or not self.is_readable


def backup_views(store: Store, data_folder: Path) -> list[BackupView]:
    """Those in `backups/`, newest first."""
    here = store.ids()
    return [_view(path, here) for path in backups(data_folder)]


def erase_from_backups(store: Store, data_folder: Path) -> list[str]:
    """Delete the backups that hold what was forgotten or deleted since, after making a new one. Returns their names.

    Damaged ones go too: nothing can be restored from them, and nobody can say what they hold.

    Raises SpearError or StoreError where the new one cannot be made; nothing has been deleted then.
    """
    old = [view.file for view in backup_views(store, data_folder) if view.holds_erased]
    if old:
        folder = back_up(store, data_folder).parent
        for name in old:
            try:
                (folder / name).unlink(missing_ok=True)
            except OSError as e:
                raise SpearError(f"The backup {folder / name} cannot be deleted ({e.strerror}).") from e
    return old


def _view(path: Path, here: dict[str, set[str]]) -> BackupView:
    status = path.stat()
    found = _ids(path)
    is_readable = found is not None
    found = found or {name: set() for name in IDS}
    made = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
    gone = {name: len(ids - here[name]) for name, ids in found.items()}
    return BackupView(
        path.name, status.st_size, made, len(found["conversations"]), gone["conversations"], gone["feedback"], is_readable
    )


def _ids(path: Path) -> dict[str, set[str]] | None:
    """The ids in a backup's database, of whatever version it is; None where it cannot be read."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=SCRATCH) as folder:
        database = Path(folder) / DATABASE
        try:
            with tarfile.open(path, "r:") as tar, database.open("wb") as out:
                packed = tar.extractfile(DATABASE)
                if packed is None:
                    raise KeyError(DATABASE)
                shutil.copyfileobj(packed, out)
            with closing(sqlite3.connect(database)) as db:
                return {name: {row[0] for row in db.execute(sql)} for name, sql in IDS.items()}
        except (OSError, tarfile.TarError, KeyError, EOFError, sqlite3.Error):
            return None


class BackupService:
    """Backups in the data folder, as the page and its owners use them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def views(self) -> list[BackupView]:
        return backup_views(self._engine.store, self._engine.data_folder)

    def back_up(self) -> str:
        """Make one. Returns its name. Raises SpearError or StoreError where it cannot be made."""
        return back_up(self._engine.store, self._engine.data_folder).name

    def erase(self) -> list[str]:
        """As `erase_from_backups`."""
        return erase_from_backups(self._engine.store, self._engine.data_folder)
