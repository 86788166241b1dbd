"""The users file while several processes and threads change it."""

from __future__ import annotations

import fcntl
import multiprocessing
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from services.accounts import users_file
from services.accounts.users_file import Accounts, add_user, make_key, read_accounts, remove_keys, remove_user

PASSWORD = "a long password"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_file, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def slow_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change reads long before it writes, so that others come between where nothing keeps them out."""

    def read(path: Path) -> users_file.AccountFile:
        file = read_accounts(path)
        time.sleep(0.05)
        return file

    monkeypatch.setattr(users_file, "read_accounts", read)


def test_of_simultaneous_changes_none_is_lost(tmp_path: Path, slow_reading: None) -> None:
    file = tmp_path / "users.json"
    for name in ("anna", "ben", "cora"):
        add_user(file, name, "guest", PASSWORD)
    make_key(file, "cora")
    changes: list[Callable[[], object]] = [
        lambda: add_user(file, "dora", "owner", PASSWORD),
        lambda: add_user(file, "emil", None, PASSWORD),
        lambda: make_key(file, "anna"),
        lambda: make_key(file, "anna"),
        lambda: remove_user(file, "ben"),
        lambda: remove_keys(file, "cora"),
    ]
    with ThreadPoolExecutor(len(changes)) as pool:
        for change in [pool.submit(change) for change in changes]:
            change.result()
    now = read_accounts(file)
    assert {name: (account.role, len(account.keys)) for name, account in now.accounts.items()} == {
        "anna": ("guest", 2),
        "cora": ("guest", 0),
        "dora": ("owner", 0),
        "emil": ("guest", 0),
    }
    assert now.former_ids == {"ben"}


def test_processes_that_add_users_at_once_add_all_of_them(tmp_path: Path, slow_reading: None) -> None:
    file = tmp_path / "users.json"
    names = ["anna", "ben", "cora", "dora"]
    fork = multiprocessing.get_context("fork")
    adding = [fork.Process(target=add_user, args=(file, name, "guest", PASSWORD)) for name in names]
    for process in adding:
        process.start()
    for process in adding:
        process.join()
    assert [process.exitcode for process in adding] == [0, 0, 0, 0]
    assert sorted(read_accounts(file).accounts) == names


def test_a_password_is_hashed_before_the_file_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "users.json"

    class Hasher:
        def hash(self, password: str) -> str:
            with Path(f"{file}.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error where it is held
            return "a hash"

    monkeypatch.setattr(users_file, "_HASHER", Hasher())
    add_user(file, "anna", "guest", PASSWORD)
    assert read_accounts(file).accounts["anna"].password == "a hash"


def test_the_lock_is_closed_to_others_and_a_kill_does_not_leave_it_locked(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    add_user(file, "anna", "owner", PASSWORD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["users.json", "users.json.lock"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())
    assert remove_keys(file, "anna") == 0, "the file that was left behind is not a lock that is held"
    assert Accounts(file).by_password("anna", PASSWORD) is not None
