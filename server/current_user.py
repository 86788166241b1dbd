"""The user of a request, and the services as that user may use them. guard.py acts on what is decided here."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from feedback_store import Store
from services.accounts.known_browsers import KnownBrowsers
from services.accounts.login_sessions import LoginSessions
from services.accounts.users_file import LOCAL, NOBODY, Accounts, User
from services.user_session import UserSession, UserSessions

if TYPE_CHECKING:
    from services.app import AppServices

COOKIE = "spear-session"  # followed by the instance: a browser shares cookies between all ports of a host
BROWSER = "spear-browser"  # the cookie by which a browser is recognised; it grants no access
INSTANCE = "instance"  # key of the store's settings


class Access:
    """Tells users apart. Without `accounts` there are no logins, and everyone is the one local owner."""

    def __init__(self, app_services: AppServices, accounts: Accounts | None) -> None:
        self.app_services = app_services
        self.accounts = accounts
        self.sessions = LoginSessions(app_services.engine.store, accounts) if accounts else None
        instance = _instance(app_services.engine.store) if accounts else ""
        self.cookie, self.browser_cookie = f"{COOKIE}-{instance}", f"{BROWSER}-{instance}"
        self.browsers = KnownBrowsers(app_services.engine.store)
        self._sessions = UserSessions(app_services, self._name_of)

    def _name_of(self, user_id: str) -> str:
        user = self.accounts.by_id(user_id) if self.accounts and user_id else None
        return user.name if user else "a user who was removed" if user_id else ""

    def session(self, user: User) -> UserSession:
        return self._sessions.of(user)

    def user_of(self, request: HTTPConnection) -> User | None:
        """The user of an API key, else of a session cookie; None where nobody is logged in.

        A wrong key is refused even with a valid cookie.
        """
        if self.accounts is None or self.sessions is None:
            return LOCAL
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.accounts.by_key(key.strip())
        return self.sessions.user_of(request.cookies.get(self.cookie, ""))

    def user_by_id(self, user_id: str | None) -> User:
        """NOBODY for an id that no account has; without logins always the local owner."""
        if self.accounts is None:
            return LOCAL
        return self.accounts.by_id(user_id) or NOBODY

    def close(self) -> None:
        """End the replies that are being written."""
        self._sessions.close()


def _instance(store: Store) -> str:
    """A name for this data folder, made once, that keeps the cookies of two instances on one host apart."""
    with store.transaction():
        name = store.setting(INSTANCE)
        if not name:
            name = secrets.token_hex(4)
            store.set_setting(INSTANCE, name)
        return str(name)
