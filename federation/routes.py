"""The HTTP routes of a peer host, for the server that already serves the page. All decisions are the guard's."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from federation.errors import FederationError, RequestRefused, UpdateRefused, UpdateReplayed
from federation.guard import CARD, KNOCK, UPDATE, GuardLimits, RequestGuard
from federation.join_requests import MAX_BODY_BYTES
from federation.peer_card import write_card
from federation.peer_host import PARTIAL_PREFIX, PARTIAL_SUFFIX, PeerHost
from federation.request_signing import HEADER, RequestSignature

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 18
MEDIA_TYPE = "application/octet-stream"


def routes(peer_host: PeerHost, limits: GuardLimits | None = None, guard: RequestGuard | None = None) -> list[Route]:
    """The routes of a peer host, to be put before those of a Starlette or FastAPI app.

    As in `app.router.routes[:0] = ...`.
    """
    guard = guard or RequestGuard(peer_host, limits)
    return [
        Route(CARD, _answer(guard, _card), methods=["GET"]),
        Route(UPDATE, _answer(guard, _give), methods=["GET"]),
        Route(UPDATE, _answer(guard, _take), methods=["POST"]),
        Route(KNOCK, _answer(guard, _send_join_request), methods=["POST"]),
    ]


def _answer(
    guard: RequestGuard, handler: Callable[[RequestGuard, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """Translate refusals into answers, once."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(guard, request)
        except RequestRefused as e:
            headers = {} if e.retry_after_seconds is None else {"Retry-After": str(e.retry_after_seconds)}
            return JSONResponse({"error": str(e)}, e.status, headers)
        except ClientDisconnect:
            return Response(status_code=400)

    return endpoint


def _remote(request: Request) -> str:
    return request.client.host if request.client else ""


async def _admitted(guard: RequestGuard, request: Request) -> RequestSignature:
    """Raises RequestRefused."""
    found = guard.admit(request.method, UPDATE, request.headers.get(HEADER), _remote(request))
    try:
        await run_in_threadpool(guard.peer_host.keep_used_request, guard.used(found))
    except FederationError as e:
        raise RequestRefused(503, str(e), 60) from e
    return found


async def _card(guard: RequestGuard, request: Request) -> Response:
    guard.pass_stranger(_remote(request))
    peer_host, offer = guard.peer_host, guard.peer_host.latest()
    etag, round = (offer.etag, offer.round) if offer else ("", 0)
    return Response(write_card(peer_host.identity, peer_host.base, etag, round), media_type="application/json")


async def _give(guard: RequestGuard, request: Request) -> Response:
    found = await _admitted(guard, request)
    offer = guard.peer_host.latest()
    if offer is None:
        return Response(status_code=204)  # nothing yet; 404 is what another program would say
    headers = {"ETag": f'"{offer.etag}"', "Cache-Control": "private, no-cache"}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return _Download(guard, found, offer.path, headers)


class _Download(Response):
    """A file, sent within the time limit or not at all; the open file outlives its replacement by a newer one."""

    def __init__(self, guard: RequestGuard, found: RequestSignature, path: Path, headers: dict[str, str]) -> None:
        super().__init__(headers=headers, media_type=MEDIA_TYPE)
        self._guard, self._found, self._path = guard, found, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._guard.transfer("give", self._found.key), self._path.open("rb") as file:
                length = file.seek(0, 2)
                file.seek(0)
                self.headers["content-length"] = str(length)
                limits = self._guard.limits
                async with asyncio.timeout(limits.transfer_seconds):
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    while chunk := await run_in_threadpool(file.read, CHUNK_BYTES):
                        if not self._guard.peer_host.approved(self._found.key):  # any more
                            log.info("peer %s was removed while it downloaded", self._found.key.fingerprint)
                            return
                        async with asyncio.timeout(limits.idle_seconds):
                            await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    await send({"type": "http.response.body", "body": b""})
        except RequestRefused as e:
            await JSONResponse({"error": str(e)}, e.status, {"Retry-After": "30"})(scope, receive, send)
        except FileNotFoundError:
            await JSONResponse({"error": "the update is gone; try again later"}, 503)(scope, receive, send)
        except TimeoutError:  # the connection is cut, and the peer sees that the file is not whole
            log.info("peer %s took too long to download", self._found.key.fingerprint)


async def _take(guard: RequestGuard, request: Request) -> Response:
    found = await _admitted(guard, request)
    length = guard.check_length(request.headers.get("Content-Length"), guard.limits.max_update_bytes)
    path = guard.peer_host.inbox / f"{PARTIAL_PREFIX}{secrets.token_hex(16)}{PARTIAL_SUFFIX}"
    with guard.transfer("take", found.key, most=1):
        try:
            with path.open("xb") as file:
                digest = await _read_body(request, length, guard.limits.transfer_seconds, guard.limits, file.write)
            if digest != found.body_sha256:
                raise RequestRefused(400, "the update that arrived is not the one that was sent")
            await run_in_threadpool(guard.peer_host.receive, found.key, path)
        except RequestRefused:
            raise
        except UpdateReplayed as e:
            raise RequestRefused(409, str(e)) from e
        except UpdateRefused as e:
            log.info("refused an update of peer %s: %s", found.key.fingerprint, e.reason)
            raise RequestRefused(422, e.reason) from e
        except FederationError as e:
            raise RequestRefused(503, str(e), 60) from e
        except OSError as e:
            log.warning("an update of peer %s could not be stored: %s", found.key.fingerprint, e)
            raise RequestRefused(507, "this peer cannot store the update; try again later", 3600) from e
        finally:
            path.unlink(missing_ok=True)
    return JSONResponse({"taken": True}, 202)


async def _send_join_request(guard: RequestGuard, request: Request) -> Response:
    remote = _remote(request)
    guard.pass_stranger(remote)
    length = guard.check_length(request.headers.get("Content-Length"), MAX_BODY_BYTES)
    body = bytearray()
    digest = await _read_body(request, length, guard.limits.body_seconds, guard.limits, body.extend)
    approved = guard.join_request(request.headers.get(HEADER), bytes(body), digest, remote)
    return JSONResponse({"approved": approved}, 200 if approved else 202)


async def _read_body(
    request: Request, length: int, seconds: float, limits: GuardLimits, write: Callable[[bytes], object]
) -> str:
    """Hand the body on as it arrives; its SHA-256. Raises RequestRefused: 408 when too slow, 413 when too long."""
    digest, got, stream = hashlib.sha256(), 0, aiter(request.stream())
    try:
        async with asyncio.timeout(seconds):
            while True:
                async with asyncio.timeout(limits.idle_seconds):
                    chunk = await anext(stream, None)
                if chunk is None:
                    return digest.hexdigest()
                got += len(chunk)
                if got > length:
                    raise RequestRefused(413, "the request's body is longer than its Content-Length")
                digest.update(chunk)
                write(chunk)
    except TimeoutError as e:
        raise RequestRefused(408, f"the request was too slow; {seconds:g} seconds are given in all") from e
