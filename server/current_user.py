"""Who a request is from, and the services as that person may use them. Decisions only; guard.py acts on them.

The page's handlers need not ask: the services that `for_visitors` gives them resolve to the signed-in user's own one at
every access, and to nobody's where there is no request.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
from gradio.context import LocalContext
from starlette.requests import HTTPConnection

from feedback_store import Store
from services.accounts.known_browsers import KnownBrowsers
from services.accounts.login_sessions import LoginSessions
from services.accounts.users_file import LOCAL, NOBODY, Accounts, User
from services.user_session import UserSession, UserSessions
from services.views import ModelView
from ui.events import QUIET

if TYPE_CHECKING:
    from services.app import AppServices

COOKIE = "spear-session"  # followed by the instance: a browser keeps one jar for all ports of a host
BROWSER = "spear-browser"  # the cookie by which a browser is known again; it opens nothing
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
        """By API key, else by session cookie. None: not logged in. A wrong key is not made good by a cookie."""
        if self.accounts is None or self.sessions is None:
            return LOCAL
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.accounts.by_key(key.strip())
        return self.sessions.user_of(request.cookies.get(self.cookie, ""))

    def signed_in(self) -> User:
        """Whose event of the page is being handled; NOBODY where none is, as while the page is built."""
        if self.accounts is None:
            return LOCAL
        request = LocalContext.request.get(None)
        return self.accounts.by_id(request.username if request else None) or NOBODY

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
            f'<form class="who" method="post" action="logout" data-role="{user.role}">'
            f"{escape(user.name)} ({user.role}) · <button>Log out</button></form>"
        )


def _instance(store: Store) -> str:
    """A name for this data folder, made once, that keeps the cookies of two instances on one host apart."""
    with store.transaction():
        name = store.setting(INSTANCE)
        if not name:
            name = secrets.token_hex(4)
            store.set_setting(INSTANCE, name)
        return str(name)


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
        self.backups = _Resolved(lambda: access.session(access.signed_in()).backups)
        self.models = _Resolved(lambda: access.session(access.signed_in()).models)
        self.demo = _Resolved(lambda: access.session(access.signed_in()).demo)

    @property
    def model(self) -> ModelView:
        return self.access.app_services.model


class _Resolved:
    """Stands for an object that is looked up again at every access."""

    def __init__(self, look_up: Callable[[], Any]) -> None:
        self.__look_up = look_up

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__look_up(), name)
