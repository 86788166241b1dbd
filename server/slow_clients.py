"""Closes connections that send a request too slowly: each one holds a file handle, and these are limited.

uvicorn waits without end for the head of a request; its only limit is the pause between two requests. The time for a
body is limited by the guard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:
    _Protocol: Any = asyncio.Protocol
else:
    _Protocol = AutoHTTPProtocol

log = logging.getLogger(__name__)
HEAD_SECONDS = 20.0  # from the first byte, or the connection's beginning, to the end of a request's head


class HangsUp(_Protocol):
    """uvicorn's own protocol with a clock that runs while a head is awaited."""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:  # no request is being answered: this is still a head
            self._wait()
        else:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._clock is None and not self.transport.is_closing():
            self._clock = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._hang_up)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _hang_up(self) -> None:
        self._clock = None
        if self.cycle is None or self.cycle.response_complete:
            log.info("a connection is closed: no request came in %.0f seconds", HEAD_SECONDS)
            self.transport.close()


def server_config(app: FastAPI, shutdown_seconds: int, trusted_proxies: Sequence[str] = ()) -> uvicorn.Config:
    """How the app is served. Open event streams are cut `shutdown_seconds` after a signal.

    Args:
        trusted_proxies: addresses or networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    """
    return uvicorn.Config(
        app,
        http=HangsUp,
        log_level="warning",
        timeout_graceful_shutdown=shutdown_seconds,
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
    )
