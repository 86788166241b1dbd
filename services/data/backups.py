"""Backup and restore while the app runs, and erasing everything. A backup is a tar of the data folder.

The database comes first, as it is at one moment, then the files: an adapter's folder is written before its row and never
changed, so all that the copied rows name is there. Backups made from the page lie in `backups/` of the data folder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from feedback_store import Store
from services.models.prepared import FOLDER as BASE_MODELS
from federation.identity import KEY_FILE
from services.peers.published_update import carry_on_numbering
from services.data.private_files import TEMPORARY, close_to_others, temporary_leftovers
from spear_core.errors import ConfigError, SpearError

log = logging.getLogger(__name__)
DATABASE = "spear.sqlite3"
FOLDER = "backups"
PEERS_FOLDER = "federation"  # this instance's key, what it offers, what peers sent
OWN_FOLDERS = ("adapters", "models")  # what was learned, and what the base model said
LOCK, APP_LOCK = ".in-use", ".app"
# What is not copied: the live database (its copy is), backups themselves, base models that are made from an installed
# package, what is half written or only of this process
SKIPPED = re.compile(
    rf"{re.escape(DATABASE)}.*|{FOLDER}|{re.escape(BASE_MODELS)}|{re.escape(LOCK)}|{re.escape(APP_LOCK)}|\.writable|{re.escape(TEMPORARY)}|\.restoring.*|.*\.tmp|.*\.part"
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}\.tar")
SCRATCH = ".restoring-"
TRIES = 3  # an adapter may be deleted while it is copied


@contextmanager
def in_use(data_folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Mark the folder as in use inside; with `alone`, exclusively. Raises SpearError where another process uses it."""
    with _lock_file(data_folder / LOCK) as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as e:
            raise SpearError(
                f"The app is running on {data_folder}: stop it first, or use the API (docs/API.md)."
                if alone
                else f"{data_folder} is being restored or erased; try again when that is done."
            ) from e
        close_to_others(data_folder)
        yield


def _lock_file(path: Path) -> IO[str]:
    """A file to lock. Raises ConfigError where the data folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as e:
        raise ConfigError(
            f"the data folder {path.parent} cannot be written ({e.strerror}); choose another with --data-folder"
        ) from e


@contextmanager
def serving(data_folder: Path) -> Iterator[None]:
    """Mark the folder as served by this app. Raises SpearError where another app serves from it.

    Each would release the other's rounds and delete the files of its unfinished adapters.
    """
    with in_use(data_folder), _lock_file(data_folder / APP_LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise SpearError(
                f"Another app is running on {data_folder}: use that one, or name another folder with --data-folder."
            ) from e
        clear_partial(data_folder)
        yield


def clear_partial(data_folder: Path) -> None:
    """Remove what a killed backup or restore left: copies of everything that was said, which nothing else deletes."""
    _remove(path for folder in (data_folder, data_folder / FOLDER) for path in folder.glob(f"{SCRATCH}*"))
    _remove((data_folder / FOLDER).glob("*.part"))


def back_up(store: Store, data_folder: Path, archive: Path | None = None) -> Path:
    """Write a backup, by default into `backups/` under the present time. Returns its path.

    Raises SpearError where it cannot be written or is there already, StoreError where the database cannot be copied.
    """
    if archive is None:
        archive = data_folder / FOLDER / f"spear-{datetime.now(UTC):%Y-%m-%d-%H%M%S-%f}.tar"
    if archive.exists():
        raise SpearError(f"{archive} is there already; a backup never overwrites.")
    part = archive.with_name(f"{archive.name}.part")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES):
            try:
                _write(store, data_folder, part)
                break
            except FileNotFoundError:
                if attempt == TRIES - 1:
                    raise
                log.info("an adapter was deleted while it was copied; copying again")
        part.replace(archive)
    except OSError as e:
        raise SpearError(f"The backup {archive} cannot be written ({e.strerror or e}).") from e
    finally:
        with suppress(OSError):
            part.unlink()
    return archive


def _write(store: Store, data_folder: Path, part: Path) -> None:
    with tempfile.TemporaryDirectory(dir=part.parent, prefix=SCRATCH) as folder:
        database = Path(folder) / DATABASE
        store.back_up(database)
        part.unlink(missing_ok=True)
        # it says all that was said: not into a file or through a link that somebody else made
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                tar.add(database, DATABASE)
                for path in sorted(data_folder.iterdir()):
                    if not SKIPPED.fullmatch(path.name):
                        tar.add(path, path.name, filter=_unless_skipped)
            file.flush()
            os.fsync(file.fileno())


def _unless_skipped(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if SKIPPED.fullmatch(Path(info.name).name) else info


def backups(data_folder: Path) -> list[Path]:
    """Those in `backups/`, newest first."""
    return sorted((data_folder / FOLDER).glob("*.tar"), reverse=True)


def find_backup(data_folder: Path, name: str) -> Path:
    """Raises SpearError for a name that is not one of `backups`."""
    path = data_folder / FOLDER / name
    if not NAME.fullmatch(name) or not path.is_file():
        raise SpearError(f"There is no backup {name[:100]!r}.")
    return path


def restore(
    store: Store, data_folder: Path, archive: Path, between_rounds: Callable[[Callable[[], None]], None]
) -> Path:
    """Put everything back as it is in `archive`. Returns the backup of what was there before, which is made first.

    An instance that has a key keeps it, and of the archive's peers only those that are approved now: a backup must bring
    neither a renewed key nor a removed peer to life again.

    `between_rounds` runs what it is given while nothing is learned (`LearningService.exchange`). A kill in the middle
    leaves a mixture: restore again. Raises SpearError for a file that is no backup, before anything is changed.
    """
    data_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_folder, prefix=SCRATCH) as folder:
        unpacked = Path(folder)
        _unpack(archive, unpacked)
        before = back_up(store, data_folder)

        def exchange() -> None:
            with Store(unpacked / DATABASE) as database:
                carry_on_numbering(store, database)
                if (key := data_folder / PEERS_FOLDER / KEY_FILE).is_file():
                    (unpacked / PEERS_FOLDER).mkdir(exist_ok=True)
                    shutil.copyfile(key, unpacked / PEERS_FOLDER / KEY_FILE)
                    for peer in {p.key for p in database.peers()} - {p.key for p in store.peers()}:
                        database.remove_peer(peer)
            store.put_back(unpacked / DATABASE)
            _remove(data_folder / name for name in OWN_FOLDERS)
            for path in unpacked.iterdir():
                if not SKIPPED.fullmatch(path.name):
                    _remove([data_folder / path.name])
                    path.rename(data_folder / path.name)

        between_rounds(exchange)
    close_to_others(data_folder)  # an archive keeps the modes of its files
    return before


def _unpack(archive: Path, folder: Path) -> None:
    """Raises SpearError, StoreError. The database is brought to this program's version, and its replies are over."""
    try:
        with tarfile.open(archive, "r:") as tar:
            if odd := next((member for member in tar if not (member.isreg() or member.isdir())), None):
                raise SpearError(f"The file {archive} is no backup of this app: {odd.name[:100]!r} in it is a link.")
            tar.extractall(folder, filter="data")
    except (OSError, tarfile.TarError, EOFError) as e:
        raise SpearError(f"The file {archive} cannot be read as a backup ({e}).") from e
    if not (folder / DATABASE).is_file():
        raise SpearError(f"The file {archive} is not a backup of this app: there is no {DATABASE} in it.")
    with Store(folder / DATABASE) as database:
        database.end_unfinished_replies()


def erase(store: Store, data_folder: Path, between_rounds: Callable[[Callable[[], None]], None]) -> None:
    """Delete everything that was said and learned, backups in the data folder included."""

    def wipe() -> None:
        store.erase()
        _remove(data_folder / name for name in (*OWN_FOLDERS, FOLDER, PEERS_FOLDER))
        _remove(temporary_leftovers(data_folder))

    between_rounds(wipe)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
