"""Browsers in which a user has logged in before: their guesses are counted apart, so that a stranger locks nobody out.

After OWASP's device cookies: a random id in a cookie of its own, of which the store has the SHA-256. It opens nothing; who
copies it can guess at one user's password as often as any stranger can.
"""

from __future__ import annotations

import hashlib
import secrets
import threading

from feedback_store import Store
from services.accounts.users_file import User

BROWSER_SECONDS = 400 * 24 * 3600  # the most that browsers keep a cookie
MOST_OF_ONE_USER = 50


class KnownBrowsers:
    """Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known = dict(store.known_browsers())  # SHA-256 -> the user's id, oldest first

    def knows(self, token: str, user_id: str | None) -> bool:
        """Whether this user logged in with that browser."""
        return user_id is not None and self._known.get(_digest(token)) == user_id

    def remember(self, token: str, user: User) -> str:
        """The cookie's value after a login: the present one where it is this user's, else a new one."""
        if self.knows(token, user.id):
            return token
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._known[_digest(token)] = user.id
            of_user = [digest for digest, user_id in self._known.items() if user_id == user.id]
            oldest = of_user[:-MOST_OF_ONE_USER]
            self._store.change_known_browsers(_digest(token), user.id, oldest)
            for digest in oldest:
                del self._known[digest]
        return token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
