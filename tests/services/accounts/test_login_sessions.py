"""Sessions of logins: random, stored as hashes, ended for good."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feedback_store import Store
from services.accounts import login_sessions
from services.accounts.login_sessions import MOST_OF_ONE_USER, SESSION_SECONDS, LoginSessions
from services.accounts.users_file import Accounts, User, add_user, remove_user
from services.data.backups import DATABASE, back_up, restore

PASSWORD = "correct horse battery"
BEN = User("ben", "guest")


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    add_user(tmp_path / "users.json", "anna", "owner", PASSWORD)
    add_user(tmp_path / "users.json", "ben", "guest", PASSWORD)
    return Accounts(tmp_path / "users.json")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "data" / DATABASE) as opened:
        yield opened


def test_a_session_outlives_a_restart_and_its_id_is_nowhere_in_the_files(
    store: Store, accounts: Accounts, tmp_path: Path
) -> None:
    token = LoginSessions(store, accounts).begin(BEN)
    assert LoginSessions(store, accounts).user_of(token) == BEN
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or token.encode() not in file.read_bytes(), file
    assert "secret" not in accounts.path.read_text()


def test_an_ended_session_stays_ended_after_a_restart(store: Store, accounts: Accounts) -> None:
    sessions = LoginSessions(store, accounts)
    token, other = sessions.begin(BEN), sessions.begin(BEN)
    sessions.end(token)
    sessions.end("never was")
    for now in (sessions, LoginSessions(store, accounts)):
        assert now.user_of(token) is None and now.user_of(other) == BEN


@pytest.mark.slow
def test_a_new_password_and_a_removal_end_sessions_and_their_rows(store: Store, accounts: Accounts) -> None:
    sessions = LoginSessions(store, accounts)
    tokens = [sessions.begin(BEN), sessions.begin(User("anna", "owner"))]
    add_user(accounts.path, "ben", "guest", PASSWORD)  # the same words again are another hash
    assert sessions.user_of(tokens[0]) is None and sessions.user_of(tokens[1]) is not None
    remove_user(accounts.path, "anna")
    assert sessions.user_of(tokens[1]) is None
    add_user(accounts.path, "anna", "owner", PASSWORD)
    assert sessions.user_of(tokens[1]) is None
    sessions.begin(BEN)
    assert len(store.sessions()) == 1


def test_a_session_ends_after_two_weeks(store: Store, accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = LoginSessions(store, accounts)
    token = sessions.begin(BEN)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(seconds=SESSION_SECONDS + 1)

    monkeypatch.setattr(login_sessions, "datetime", Later)
    assert sessions.user_of(token) is None and LoginSessions(store, accounts).user_of(token) is None


def test_the_oldest_session_of_a_user_with_very_many_ends(store: Store, accounts: Accounts) -> None:
    sessions = LoginSessions(store, accounts)
    first, second = sessions.begin(BEN), sessions.begin(BEN)
    for _ in range(MOST_OF_ONE_USER - 1):
        sessions.begin(BEN)
    assert sessions.user_of(first) is None and sessions.user_of(second) == BEN
    assert len(store.sessions()) == MOST_OF_ONE_USER


def test_a_backup_holds_no_session_and_brings_none_back(store: Store, accounts: Accounts, tmp_path: Path) -> None:
    sessions = LoginSessions(store, accounts)
    ended, kept = sessions.begin(BEN), sessions.begin(BEN)
    archive = back_up(store, tmp_path / "data")
    assert all(s.id_sha256.encode() not in archive.read_bytes() for s in store.sessions())
    sessions.end(ended)
    restore(store, tmp_path / "data", archive, lambda change: change())
    after_a_restart = LoginSessions(store, accounts)
    assert after_a_restart.user_of(ended) is None and after_a_restart.user_of(kept) == BEN


@pytest.mark.slow
def test_an_earlier_file_of_users_is_read_and_keeps_its_ids(accounts: Accounts) -> None:
    """Written before there were ids, with the secret that signed cookies then."""
    said = accounts.path.read_text().replace('"id": "ben"', '"was": 1').replace('"users"', '"secret": "x", "users"', 1)
    accounts.path.write_text(said)
    assert accounts.user("ben") == BEN and accounts.by_id("ben") == BEN
    remove_user(accounts.path, "ben")
    add_user(accounts.path, "ben", "guest", PASSWORD)
    new = accounts.user("ben")
    assert new is not None and new.id != "ben" and accounts.by_id("ben") is None and accounts.by_id(new.id) == new
