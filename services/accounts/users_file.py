"""The users file: one JSON file of users with roles, argon2 password hashes and hashed API keys. No HTTP, no cookies.

Nothing in the file opens anything by itself: it holds hashes only.

A password is hashed by argon2-cffi with its defaults (argon2id, RFC 9106). An API key is 256 random bits, so its SHA-256
is enough. A running app sees a change of the file at its next request. Changes wait for each other at a lock on an empty
file beside it (`users.json.lock`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from spear_core.errors import ConfigError

log = logging.getLogger(__name__)
Role = Literal["owner", "guest"]
ROLES: tuple[Role, ...] = ("owner", "guest")
KEY_PREFIX = "spear-"
AGAIN = ":"  # between a name and what tells its second account from the first; no name has it
MIN_PASSWORD_CHARACTERS = 8
MAX_PASSWORD_CHARACTERS = 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASHER = PasswordHasher()


@dataclass(frozen=True)
class User:
    """A guest chats, votes and forgets what they said themselves; an owner also changes what everybody shares."""

    name: str
    role: Role
    id: str = ""  # whose conversations are whose; never given to a second account. The name where left out

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", self.id or self.name)

    @property
    def is_owner(self) -> bool:
        return self.role == "owner"


# The user of an instance without logins, and, with logins, a visitor who has not logged in (no account has such a name)
LOCAL = User("", "owner")
NOBODY = User("?", "guest")


@dataclass(frozen=True)
class Account:
    """One user as the file keeps them. Raises ConfigError for a name or role that is not allowed."""

    name: str
    role: Role
    password: str  # argon2 hash
    keys: tuple[str, ...] = ()  # SHA-256 of API keys
    id: str = ""  # as in User

    @property
    def user_id(self) -> str:
        return self.id or self.name

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"{self.name!r} is not a user name; it has up to 64 letters, digits or any of . _ @ -")
        if self.role not in ROLES:
            raise ConfigError(f"{self.role!r} is not a role; there are: {', '.join(ROLES)}")

    @property
    def user(self) -> User:
        return User(self.name, self.role, self.user_id)

    @property
    def stamp(self) -> str:
        """Changes with the password: sessions that were begun with another one end."""
        return _sha256(self.password)[:16]


@dataclass(frozen=True)
class AccountFile:
    """What is in the file. `former_ids` are those of removed accounts: no new one gets them."""

    accounts: dict[str, Account] = field(default_factory=dict)
    former_ids: set[str] = field(default_factory=set)

    def find(self, name_or_id: str) -> Account | None:
        """The account with this id, else with this name."""
        by_id = {account.user_id: account for account in self.accounts.values()}
        return by_id.get(name_or_id) or self.accounts.get(name_or_id)

    def new_id(self, name: str) -> str:
        """The name, unless an earlier account had it: a new user is not given what that one said."""
        taken = self.former_ids | {account.user_id for account in self.accounts.values()}
        return f"{name}{AGAIN}{secrets.token_hex(4)}" if name in taken else name


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_accounts(path: Path) -> AccountFile:
    """Raises ConfigError where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        accounts = {
            name: Account(name, said["role"], str(said["password"]), tuple(map(str, said["keys"])), said.get("id", ""))
            for name, said in content["users"].items()
        }
        return AccountFile(accounts, set(content.get("former_ids", ())))
    except OSError as e:
        raise ConfigError(
            f"the file of users {path} cannot be read ({e.strerror}); make it with `python app.py users add`"
        ) from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ConfigError(
            f"the file of users {path} is damaged; restore it, or delete it and add the users again"
        ) from e


def find_account(path: Path, name_or_id: str) -> Account:
    """Raises ConfigError where the file is missing or damaged, or has no such account."""
    file = read_accounts(path)
    return file.find(name_or_id) or file.accounts[_known(file.accounts, name_or_id)]


def _write(path: Path, file: AccountFile) -> None:
    """Write the file with mode 0600, completely or not at all."""
    users = {name: {k: v for k, v in asdict(a).items() if k != "name"} for name, a in file.accounts.items()}
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(json.dumps({"users": users, "former_ids": sorted(file.former_ids)}, indent=1))
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of the users file among processes and threads. The file itself cannot be locked: a change replaces it."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _changing(path: Path) -> Iterator[AccountFile]:
    """What is in the file, to be changed in place and written back, one change at a time. A missing file begins empty."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            file = read_accounts(path) if path.exists() else AccountFile()
            yield file
            _write(path, file)
    except OSError as e:
        raise ConfigError(f"the file of users {path} cannot be written ({e.strerror}); check its folder") from e


def add_user(path: Path, name: str, role: Role | None, password: str) -> Role:
    """Add a user, or give an existing one another password and role; API keys stay. Raises ConfigError.

    Without a role an existing user keeps theirs, and a new one is a guest. Returns the role.
    """
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS:
        raise ConfigError(f"a password has {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters")
    password_hash = _HASHER.hash(password)  # takes long: before the lock
    with _changing(path) as file:
        before = file.accounts.get(name)
        keys, user_id = (before.keys, before.user_id) if before else ((), file.new_id(name))
        role = role or (before.role if before else "guest")
        file.accounts[name] = Account(name, role, password_hash, keys, user_id)
    return role


def remove_user(path: Path, name: str) -> None:
    """Their sessions and keys end; their conversations stay in the store, and no later user of that name gets them.

    Raises ConfigError for an unknown name.
    """
    with _changing(path) as file:
        file.former_ids.add(file.accounts.pop(_known(file.accounts, name)).user_id)


def make_key(path: Path, name: str) -> str:
    """A new API key of a user. It is not stored, only its hash: show it now. Raises ConfigError for an unknown name."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    with _changing(path) as file:
        account = file.accounts[_known(file.accounts, name)]
        file.accounts[name] = replace(account, keys=(*account.keys, _sha256(key)))
    return key


def remove_keys(path: Path, name: str) -> int:
    """All API keys of a user end. Returns their number. Raises ConfigError for an unknown name."""
    with _changing(path) as file:
        account = file.accounts[_known(file.accounts, name)]
        file.accounts[name] = replace(account, keys=())
    return len(account.keys)


def _close_to_others(path: Path) -> None:
    """A file that was copied by hand may have open modes."""
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
            log.warning("the file of users %s could be read by other users of this machine and is now closed", path)
    except OSError as e:
        log.warning("the file of users %s can be read by other users of this machine: %s", path, e.strerror)


def _known(accounts: dict[str, Account], name: str) -> str:
    if name not in accounts:
        raise ConfigError(f"there is no user {name!r}; there are: {', '.join(accounts) or 'none yet'}")
    return name


def _version(path: Path) -> tuple[int, int, int] | None:
    """Differs where the file was changed; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


class Accounts:
    """The users file of a running app. Raises ConfigError at the start where it is missing, damaged or empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._hashing = threading.Semaphore(2)  # argon2 takes 64 MB each time
        self._file = read_accounts(path)
        _close_to_others(path)
        self._seen = _version(path)
        if not self._file.accounts:
            raise ConfigError(f"the file of users {path} has nobody in it; add one with `python app.py users add`")
        self._decoy = _HASHER.hash(secrets.token_hex(8))

    def _now(self) -> AccountFile:
        """The file as it is now. If it was deleted or damaged meanwhile, nobody can log in."""
        with self._lock:
            seen = _version(self.path)
            if seen != self._seen:
                self._seen = seen
                try:
                    self._file = read_accounts(self.path)
                except ConfigError as e:
                    log.error("nobody can log in: %s", e)
                    self._file = AccountFile()
            return self._file

    def user(self, name: str | None) -> User | None:
        account = self._now().accounts.get(name or "")
        return account.user if account else None

    def by_id(self, user_id: str | None) -> User | None:
        return self._first(lambda account: account.user_id == user_id)

    def by_password(self, name: str, password: str) -> User | None:
        """None for a wrong password and for an unknown name, after the same time."""
        account = self._now().accounts.get(name)
        if len(password) > MAX_PASSWORD_CHARACTERS:
            return None
        with self._hashing:
            try:
                _HASHER.verify(account.password if account else self._decoy, password)
            except (Argon2Error, InvalidHashError):
                return None
        return account.user if account else None

    def by_key(self, key: str) -> User | None:
        digest = _sha256(key)
        return self._first(lambda account: digest in account.keys)

    def by_session(self, user_id: str, stamp: str) -> User | None:
        return self._first(lambda account: account.user_id == user_id and account.stamp == stamp)

    def stamp(self, user: User) -> str:
        """Of the user's present password; empty, which is nobody's, where the user is gone."""
        account = self._now().accounts.get(user.name)
        return account.stamp if account else ""

    def _first(self, wanted: Callable[[Account], bool]) -> User | None:
        return next((account.user for account in self._now().accounts.values() if wanted(account)), None)
