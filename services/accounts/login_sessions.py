"""Login sessions: random ids in a cookie. They end at logout, and when the password or the account changes.

Looked up in memory at every request, and stored, so that a restart ends none.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from datetime import UTC, datetime, timedelta

from feedback_store import LoginSession, Store
from services.accounts.users_file import Accounts, User

SESSION_SECONDS = 14 * 24 * 3600
MOST_OF_ONE_USER = 50  # browsers; the oldest session ends where there are more


class LoginSessions:
    """The sessions in `store`, of those who are in `accounts`. Safe to use from several threads."""

    def __init__(self, store: Store, accounts: Accounts) -> None:
        self._store = store
        self._accounts = accounts
        self._lock = threading.Lock()
        self._sessions = {session.id_sha256: session for session in store.sessions()}  # oldest first

    def begin(self, user: User) -> str:
        """A new session's id, for the cookie: 256 random bits."""
        token = secrets.token_urlsafe(32)
        until = datetime.now(UTC) + timedelta(seconds=SESSION_SECONDS)
        session = LoginSession(
            _digest(token), user.id, self._accounts.stamp(user), until.isoformat(timespec="microseconds")
        )
        with self._lock:
            self._store.add_session(session)
            self._sessions[session.id_sha256] = session
            self._sweep(user)
        return token

    def user_of(self, token: str) -> User | None:
        """None for a session that never was, was ended, is too old, or is of another password."""
        session = self._sessions.get(_digest(token))
        return self._user(session) if session else None

    def end(self, token: str) -> None:
        """End a session for everybody who has its cookie. Nothing happens for an unknown one."""
        with self._lock:
            self._end([_digest(token)])

    def _user(self, session: LoginSession) -> User | None:
        if session.expires_at_utc <= datetime.now(UTC).isoformat(timespec="microseconds"):
            return None
        return self._accounts.by_session(session.user, session.stamp)

    def _sweep(self, user: User) -> None:
        """End expired sessions, and the oldest ones of a user who has too many."""
        useless = [s.id_sha256 for s in self._sessions.values() if self._user(s) is None]
        of_user = [s.id_sha256 for s in self._sessions.values() if s.user == user.id and s.id_sha256 not in useless]
        self._end([*useless, *of_user[:-MOST_OF_ONE_USER]])

    def _end(self, ids: list[str]) -> None:
        for session_id in ids:
            self._sessions.pop(session_id, None)
        self._store.end_sessions(ids)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
