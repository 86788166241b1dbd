"""What the tests of a circle of real workbenches do: serve one, let a stranger in."""

from __future__ import annotations

import time
from contextlib import ExitStack

from starlette.applications import Starlette

from federation.identity import Identity
from federation.join_requests import JoinRequest
from services.app import AppServices
from tests.federation.circle import listening


def serve(app: AppServices, stack: ExitStack) -> str:
    """Serve a bench's federation routes; the address to give to peers."""
    url = stack.enter_context(listening(Starlette(routes=list(app.sync.routes()))))
    return f"{url}#{app.sync.identity.public.text}"


def admit(app: AppServices, author: Identity) -> None:
    """Say yes to a peer that gives no address."""
    app.sync.join_requests.add(JoinRequest(author.public, "mallory", "", "127.0.0.1", time.time()))
    app.sync.approve(author.public.text)
