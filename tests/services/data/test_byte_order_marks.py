"""Files that a person edits, saved by an editor that begins them with a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from services.accounts.users_file import add_user, make_key, read_accounts
from services.settings_file import read_settings
from spear_core.models.settings import SETTINGS_FILE
from spear_core.models.settings import read_settings as read_model_settings

DEFAULTS = {"model": "m", "data_folder": Path("data")}


def marked(file: Path, text: str) -> Path:
    file.write_bytes(codecs.BOM_UTF8 + text.encode())
    return file


def test_the_settings_file(tmp_path: Path) -> None:
    assert read_settings(marked(tmp_path / "spear.toml", "port = 8123\n"), {}, DEFAULTS).port == 8123


def test_the_file_of_users(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    add_user(file, "anna", "owner", "correct horse battery")
    marked(file, file.read_text())
    assert list(read_accounts(file).accounts) == ["anna"]
    make_key(file, "anna")
    assert not file.read_bytes().startswith(codecs.BOM_UTF8), "written without one"


def test_what_a_model_folder_says_about_itself(tmp_path: Path) -> None:
    marked(tmp_path / SETTINGS_FILE, '{"max_new_tokens": 7}')
    assert read_model_settings(tmp_path).max_new_tokens == 7
