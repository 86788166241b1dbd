"""Dependencies of the API's routes: the user, the session and the services of a request."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Query, Request

from server.api.errors import Busy, ReplyLost
from server.current_user import Access
from services.accounts.users_file import User
from services.app import AppServices
from services.user_session import UserSession
from services.views import MessageView

T = TypeVar("T")
MOST_REPLIES = 100  # that wait for their turn or are being written (spear_core/inference/continuous_batching.py)
WORDS_AT_ONCE = 4
_replying = threading.BoundedSemaphore(MOST_REPLIES)


@dataclass(frozen=True)
class Threads:
    """In which requests are answered; the server's usual forty are for what is neither reply nor word."""

    replies: CapacityLimiter  # that are waited for; what is refused needs a thread too, for a moment
    # Votes and the like, so few at once that they are taken in the order in which they came
    words: CapacityLimiter

    @classmethod
    def new(cls) -> Threads:
        return cls(CapacityLimiter(MOST_REPLIES + 10), CapacityLimiter(WORDS_AT_ONCE))


async def _threads(request: Request) -> Threads:
    threads: Threads = request.app.state.threads
    return threads


def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


async def _user(request: Request) -> User:
    """The user that the guard has put into the request; the guard refuses requests without one."""
    user: User = request.state.user
    return user


async def _session(request: Request) -> UserSession:
    user: User = request.state.user
    return _access(request).session(user)


async def _app_services(request: Request) -> AppServices:
    return _access(request).app_services


Asker = Annotated[User, Depends(_user)]
Session = Annotated[UserSession, Depends(_session)]  # the services as the asking user may use them
Whole = Annotated[AppServices, Depends(_app_services)]  # everybody's: for owners, and for what is no one's
AnsweredIn = Annotated[Threads, Depends(_threads)]
Limit = Annotated[int, Query(ge=1, le=10_000)]  # of the entries of a list


@contextmanager
def reply_slot() -> Iterator[None]:
    """Around a reply, which waits for its turn inside. Raises Busy where too many wait already."""
    if not _replying.acquire(blocking=False):
        raise Busy("Too many replies are waited for; try again in a moment.")
    try:
        yield
    finally:
        _replying.release()


def unless_lost(views: Iterator[MessageView]) -> Iterator[MessageView]:
    """The views of a reply as they come. Raises ReplyLost in the place of the last one where the reply was lost."""
    for view in views:
        if view.ending == "lost":
            raise ReplyLost("The reply was lost before it ended; ask again.")
        yield view


async def each(items: Generator[T], threads: CapacityLimiter) -> AsyncIterator[T]:
    """The items, each waited for in one of the threads; closed where nobody wants the rest."""
    over = object()
    try:
        while (item := await to_thread.run_sync(next, items, over, limiter=threads)) is not over:
            yield item  # type: ignore[misc]
    finally:
        items.close()
