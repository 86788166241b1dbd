"""The services of the visitor whose event is being handled, and the visitor's name at the top of the page."""

from __future__ import annotations

from html import escape

import gradio as gr

from server.current_user import Access
from services.accounts.users_file import User
from services.chat.chat import ChatService
from services.chat.feedback import FeedbackService
from services.learning.comparison import ComparisonService
from services.learning.progress import ProgressService
from services.user_session import (
    UserAdapterFiles,
    UserBackups,
    UserDemo,
    UserLearning,
    UserModels,
    UserSession,
    UserSync,
)
from services.views import ModelView
from ui.events import QUIET
from ui.gradio_workarounds.event_user import id_of_event_user


class Visitor:
    """One object for all visitors: each property is looked up for the user of the event that is being handled.

    While the page is built there is no event, and the services are those of nobody.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    @property
    def user(self) -> User:
        return self._access.user_by_id(id_of_event_user())

    @property
    def session(self) -> UserSession:
        return self._access.session(self.user)

    @property
    def chat(self) -> ChatService:
        return self.session.chat

    @property
    def feedback(self) -> FeedbackService:
        return self.session.feedback

    @property
    def learning(self) -> UserLearning:
        return self.session.learning

    @property
    def sync(self) -> UserSync:
        return self.session.sync

    @property
    def comparison(self) -> ComparisonService:
        return self.session.comparison

    @property
    def progress(self) -> ProgressService:
        return self.session.progress

    @property
    def adapter_files(self) -> UserAdapterFiles:
        return self.session.adapter_files

    @property
    def backups(self) -> UserBackups:
        return self.session.backups

    @property
    def models(self) -> UserModels:
        return self.session.models

    @property
    def demo(self) -> UserDemo:
        return self.session.demo

    @property
    def model(self) -> ModelView:
        return self._access.app_services.model


def show_name(page: gr.Blocks, access: Access) -> None:
    """Add the user's name and the way out to a page. Nothing where there are no logins."""
    if access.accounts is None:
        return
    visitor = Visitor(access)
    with page:
        who = gr.HTML(elem_id="who", apply_default_css=False)
        page.load(lambda: name_html(visitor.user), None, [who], **QUIET)


def name_html(user: User) -> str:
    return (
        f'<form class="who" method="post" action="logout" data-role="{user.role}">'
        f"{escape(user.name)} ({user.role}) · <button>Log out</button></form>"
    )
