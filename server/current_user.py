"""Who a request is from, and the services as that person may use them. Decisions only; the door itself is access_gate.py.

The page's handlers need not ask: the workbench that `for_visitors` gives them resolves to the signed-in user's own one at
every access, and to nobody's where there is no request.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
from gradio.context import LocalContext
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import HTTPConnection

from services.accounts.users_file import LOCAL, NOBODY, Accounts, User
from services.user_session import UserSession, UserSessions
from services.views import ModelView
from ui.events import QUIET

if TYPE_CHECKING:
    from services.app import AppServices

COOKIE = "spear-session"
SESSION_SECONDS = 14 * 24 * 3600


class Access:
    """Tells users apart. Without `accounts` there are no logins, and everyone is the one local owner."""

    def __init__(self, app_services: AppServices, accounts: Accounts | None) -> None:
        self.app_services = app_services
        self.accounts = accounts
        self._sessions = UserSessions(app_services)

    def session(self, user: User) -> UserSession:
        return self._sessions.of(user)

    def user_of(self, request: HTTPConnection) -> User | None:
        """By API key, else by session cookie. None: not logged in. A wrong key is not made good by a cookie."""
        if self.accounts is None:
            return LOCAL
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.accounts.by_key(key.strip())
        return self._of_session(request.cookies.get(COOKIE, ""))

    def new_session(self, user: User) -> str:
        """The value of a session cookie; it ends with the user's password."""
        assert self.accounts is not None
        return self._serializer().dumps([user.name, self.accounts.stamp(user)])

    def _of_session(self, cookie: str) -> User | None:
        assert self.accounts is not None
        try:
            name, stamp = self._serializer().loads(cookie, max_age=SESSION_SECONDS)
        except (BadData, ValueError, TypeError):
            return None
        return self.accounts.by_session(name, stamp)

    def _serializer(self) -> URLSafeTimedSerializer:
        assert self.accounts is not None
        return URLSafeTimedSerializer(self.accounts.secret, salt=COOKIE)

    def signed_in(self) -> User:
        """Whose event of the page is being handled; NOBODY where none is, as while the page is built."""
        if self.accounts is None:
            return LOCAL
        request = LocalContext.request.get(None)
        return self.accounts.user(request.username if request else None) or NOBODY

    def for_visitors(self) -> AppServices:
        """What the page is built on: every service is the signed-in user's."""
        return cast("AppServices", _VisitorSession(self))

    def close(self) -> None:
        """End the replies that are being written."""
        self._sessions.close()

    def show_who_is_here(self, page: gr.Blocks) -> None:
        """Add the user's name and the way out to a page. Nothing where there are no logins."""
        if self.accounts is not None:
            with page:
                who = gr.HTML(elem_id="who", apply_default_css=False)
                page.load(self._who, None, [who], **QUIET)

    def _who(self) -> str:
        user = self.signed_in()
        return (
            f'<div class="who" data-role="{user.role}">{escape(user.name)} ({user.role}) · '
            '<a href="logout">Log out</a></div>'
        )


class _VisitorSession:
    def __init__(self, access: Access) -> None:
        self.access = access
        self.chat = _Resolved(lambda: access.session(access.signed_in()).chat)
        self.feedback = _Resolved(lambda: access.session(access.signed_in()).feedback)
        self.learning = _Resolved(lambda: access.session(access.signed_in()).learning)
        self.sync = _Resolved(lambda: access.session(access.signed_in()).sync)
        self.comparison = _Resolved(lambda: access.session(access.signed_in()).comparison)
        self.progress = _Resolved(lambda: access.session(access.signed_in()).progress)
        self.adapter_files = _Resolved(lambda: access.session(access.signed_in()).adapter_files)
        self.models = _Resolved(lambda: access.session(access.signed_in()).models)
        self.demo = _Resolved(lambda: access.session(access.signed_in()).demo)

    @property
    def model(self) -> ModelView:
        return self.access.app_services.model


class _Resolved:
    """Stands for an object that is looked up anew at every access."""

    def __init__(self, look_up: Callable[[], Any]) -> None:
        self.__look_up = look_up

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__look_up(), name)
