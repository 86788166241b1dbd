"""What the tests of a circle of real workbenches do: serve one, let a stranger in."""

from __future__ import annotations

import time
from contextlib import ExitStack

from starlette.applications import Starlette

from federation.keys import Identity
from federation.knocks import Knock
from services.workbench import Workbench
from tests.federation.circle import listening


def serve(bench: Workbench, stack: ExitStack) -> str:
    """Serve a bench's federation routes; the address to give to peers."""
    url = stack.enter_context(listening(Starlette(routes=list(bench.sync.routes()))))
    return f"{url}#{bench.sync.identity.public.text}"


def admit(bench: Workbench, author: Identity) -> None:
    """Say yes to a peer that gives no address."""
    bench.sync.knocks.add(Knock(author.public, "mallory", "", "127.0.0.1", time.time()))
    bench.sync.approve(author.public.text)
