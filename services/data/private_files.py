"""Private files: permissions for the user alone, and a temporary folder that is deleted at the end."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)
OTHERS = 0o077  # what group and others may do
TEMPORARY = ".temporary"
UPLOADS = "uploads"
DEMO_PREFIX = "spear-demo-"  # a demonstration under way; it holds nobody's words
# Everything that the app writes into the data folder; other files there are left alone
OWN = ("spear.sqlite3*", "adapters", "models", "federation", "backups", "question-features", ".in-use", ".app", ".writable", TEMPORARY)


def close_to_others(data_folder: Path) -> int:
    """Remove the permissions of group and others from the app's files. Returns how many files had any.

    What cannot be changed is logged; links are left alone.
    """
    if os.name != "posix":
        return 0
    paths = [data_folder] if (data_folder / "spear.sqlite3").is_file() else []
    for pattern in OWN:
        for top in data_folder.glob(pattern):
            paths += [top, *(top.rglob("*") if top.is_dir() and not top.is_symlink() else ())]
    return sum(_close(path) for path in paths)


def _close(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & OTHERS:
            return False
        path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except FileNotFoundError:  # deleted meanwhile
        return False
    except OSError as e:
        log.warning("%s can be read by other users of this machine, and that cannot be changed: %s", path, e.strerror)
        return False
    return True


@contextmanager
def temporary_files(data_folder: Path) -> Iterator[Path]:
    """A folder inside the data folder for all temporary files of this process, empty before and after.

    Where the disk refuses one, it is in the system's temporary folder. Enter this before Gradio builds a page: it keeps
    uploads there.
    """
    folder, before = data_folder / TEMPORARY, tempfile.tempdir
    shutil.rmtree(folder, ignore_errors=True)
    try:
        (folder / UPLOADS).mkdir(parents=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as e:
        log.warning("%s cannot be made (%s); temporary files go elsewhere", folder, e.strerror)
        folder = Path(tempfile.mkdtemp(prefix="spear-"))
        (folder / UPLOADS).mkdir()
    # absolute, since Gradio compares paths
    os.environ["GRADIO_TEMP_DIR"] = str((folder / UPLOADS).resolve())
    tempfile.tempdir = str(folder.resolve())
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def temporary_leftovers(data_folder: Path) -> Iterable[Path]:
    """What an erasure deletes of the temporary files: uploads, and whatever is not a demonstration under way."""
    folder = data_folder / TEMPORARY
    found = [*folder.glob("*"), *(folder / UPLOADS).glob("*")]
    return [path for path in found if path.name != UPLOADS and not path.name.startswith(DEMO_PREFIX)]
