"""What the app writes is for its own user's eyes, whatever the umask it was started with and whatever lay there before."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from feedback_store import Store
from services.accounts.users_file import Accounts, add_user
from services.data.backups import DATABASE, back_up, erase, restore
from services.data.private_files import TEMPORARY, UPLOADS, close_to_others, temporary_files
from tests.tiny_models import tiny_folder

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def open_to_others(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): stat.filemode(path.stat().st_mode)
        for path in [folder, *folder.rglob("*")]
        if path.stat().st_mode & 0o077
    }


def open_up(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.slow
def test_a_running_app_has_no_file_that_others_may_read(tmp_path: Path) -> None:
    """Started with an open umask, over files that an earlier version left open."""
    data, model = tmp_path / "data", tiny_folder("qwen2", tmp_path / "model")
    with Store(data / DATABASE) as store:
        store.create_conversation("What is an owl?")
    (data / "adapters" / "base" / "v00001").mkdir(parents=True)
    (data / "adapters" / "base" / "v00001" / "training.json").write_text("{}")
    (data / "backups").mkdir()
    (data / "backups" / "old.tar").write_bytes(b"")
    (data / TEMPORARY / UPLOADS).mkdir(parents=True)
    (data / TEMPORARY / UPLOADS / "left.zip").write_bytes(b"left by a kill")
    (data / "of-somebody-else.txt").write_text("not the app's")
    open_up(data)
    command = [sys.executable, "-u", "app.py", "--model", str(model), "--data-folder", str(data), "--port", "0"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.umask(0)
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split(": ")[-1].strip()
        assert not (data / TEMPORARY / UPLOADS / "left.zip").exists()
        said = {"model": "model", "messages": [{"role": "user", "content": "What is an owl?"}], "max_tokens": 2}
        assert httpx.post(f"{url}/v1/chat/completions", json=said, timeout=60).status_code == 200
        sent = httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.zip", b"x")})
        assert Path(sent.json()[0]).is_relative_to((data / TEMPORARY / UPLOADS).resolve())
        assert httpx.post(f"{url}/v1/data/backup", json={}).status_code == 200
        assert set(open_to_others(data)) == {"of-somebody-else.txt"}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert set(open_to_others(data)) == {"of-somebody-else.txt"} and not (data / TEMPORARY).exists()


def test_a_restore_of_open_files_closes_them(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Store(data / DATABASE) as store:
        (data / "adapters").mkdir()
        (data / "adapters" / "a.json").write_text("{}")
        open_up(data)
        archive = back_up(store, data)
        restore(store, data, archive, lambda change: change())
    assert not open_to_others(data)
    assert close_to_others(data) == 0 and close_to_others(tmp_path / "none") == 0


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data" / "adapters").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("x")
    open_up(elsewhere)
    (tmp_path / "data" / "adapters" / "link").symlink_to(elsewhere)
    (tmp_path / "data" / "models").symlink_to(elsewhere)
    close_to_others(tmp_path / "data")
    assert set(open_to_others(elsewhere)) == {".", "file"}


def test_an_open_file_of_users_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add_user(tmp_path / "users.json", "anna", "owner", "a long password")
    (tmp_path / "users.json").chmod(0o644)
    Accounts(tmp_path / "users.json")
    assert (tmp_path / "users.json").stat().st_mode & 0o077 == 0 and "could be read by other users" in caplog.text


def test_temporary_files_are_in_the_data_folder_and_erased_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "as before")
    with Store(tmp_path / DATABASE) as store, temporary_files(tmp_path) as folder:
        uploads = Path(os.environ["GRADIO_TEMP_DIR"])
        (uploads / "hash").mkdir()
        (uploads / "hash" / "adapter.zip").write_bytes(b"x")
        made = Path(tempfile.mkdtemp(prefix="spear-zip-"))
        assert made.parent == folder.resolve() == uploads.parent and folder.stat().st_mode & 0o077 == 0
        erase(store, tmp_path, lambda change: change())
        assert list(folder.iterdir()) == [folder / UPLOADS] and not list(uploads.iterdir())
    assert not folder.exists() and Path(tempfile.mkdtemp()).parent != folder
