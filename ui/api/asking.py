"""Who asks: what every route of the API takes from its request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request

from services.accounts import User
from services.user_bench import UserBench
from services.workbench import Workbench
from ui.access import Access
from ui.api.errors import Busy

REPLIES_AT_ONCE = 8  # as on the page
_replying = threading.BoundedSemaphore(REPLIES_AT_ONCE)


def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


def _user(request: Request) -> User:
    """Put there by the gate, which lets nobody in without one."""
    user: User = request.state.user
    return user


def _bench(request: Request) -> UserBench:
    return _access(request).bench(_user(request))


def _workbench(request: Request) -> Workbench:
    return _access(request).workbench


Asker = Annotated[User, Depends(_user)]
Bench = Annotated[UserBench, Depends(_bench)]  # the services as the asking user may use them
Whole = Annotated[Workbench, Depends(_workbench)]  # everybody's: for owners, and for what is no one's


@contextmanager
def reply_slot() -> Iterator[None]:
    """Around a reply. Raises Busy where too many are being written."""
    if not _replying.acquire(blocking=False):
        raise Busy("Too many replies are being written; try again in a moment.")
    try:
        yield
    finally:
        _replying.release()
