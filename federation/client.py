"""The client of a peer over httpx: card, pull, push, join request. Blocking; for a worker thread. It does not check updates.

Every wait has a limit, every answer a size, and no redirect is followed: a redirect could only lead to someone whose
key is not the pinned one. Proxies and passwords of the environment are not used.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx

from federation.canonical_json import canonical_json, strict_json
from federation.errors import FederationError, PeerRefused, PeerUnavailable, PeerUntrusted, shown
from federation.guard import CARD, KNOCK, UPDATE
from federation.identity import Identity
from federation.join_requests import MAX_NAME_CHARACTERS
from federation.peer_card import MAX_CARD_BYTES, Card, read_card
from federation.peer_host import PARTIAL_PREFIX, PARTIAL_SUFFIX
from federation.peers import PeerAddress
from federation.request_signing import HEADER, NO_BODY, sign_request
from federation.update import MAX_UPDATE_BYTES

CHUNK_BYTES = 1 << 16
MAX_ANSWER_BYTES = 4096
BUSY = {408, 425, 429}
T = TypeVar("T")
_ETAG = re.compile(r'"([0-9a-f]{32})"')


@dataclass(frozen=True)
class Waits:
    """Seconds: to connect, between two pieces of data, and for one whole call, whatever the peer does."""

    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    total_seconds: float = 600.0


@dataclass(frozen=True)
class Pulled:
    """A file that arrived whole and is the caller's to check, move or remove; ask with its `etag` next time."""

    path: Path
    etag: str


@cache
def _certificates() -> ssl.SSLContext:
    """The public certificate authorities, read once: it takes longer than many an answer."""
    return httpx.create_ssl_context(trust_env=False)


class PeerClient:
    """One peer, as a caller in a thread without an event loop sees it. Each call is a connection of its own.

    The calls run httpx's asynchronous client inside, for only that can be cut off at a total time: a blocking read
    with a timeout starts again with every byte of a peer that sends one byte at a time.

    Args:
        verify: an SSL context for a private certificate authority; None trusts the public ones.
        clock: seconds since 1970, for signed requests.

    All methods raise PeerUnavailable when it is worth trying again later, PeerRefused when the peer said no, and
    PeerUntrusted when whoever answers breaks the protocol.
    """

    def __init__(
        self,
        identity: Identity,
        address: PeerAddress,
        waits: Waits | None = None,
        *,
        max_update_bytes: int = MAX_UPDATE_BYTES,
        verify: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address = address
        self._identity = identity
        self._waits = waits or Waits()
        self._max_update_bytes = max_update_bytes
        self._verify = verify or _certificates()
        self._clock = clock
        self._closed = False
        self._cancel: Callable[[], object] = lambda: None

    def close(self) -> None:
        """Give up the call under way, from another thread; every later one is given up at once."""
        self._closed = True
        self._cancel()

    def card(self) -> Card:
        """What the peer is and offers; the pinned key signed it."""
        return self._run(self._card())

    def pull(self, inbox: Path, etag: str = "") -> Pulled | None:
        """Download the peer's latest update into `inbox`, or None when it is still the one with this etag,
        or there is none yet.

        The file is removed again if it does not arrive whole. Raises FederationError also if it cannot be stored.
        """
        return self._run(self._pull(inbox, etag))

    def push(self, path: Path) -> bool:
        """Send an update. False if the peer had it already, as after a push whose answer was lost."""
        try:
            self._run(self._push(path))
        except PeerRefused as e:
            if e.status == 409:
                return False
            raise
        return True

    def join_request(self, name: str, url: str) -> bool:
        """Ask to be approved; whether that has happened already.

        Args:
            name: what to call oneself, at most 60 characters count.
            url: where this instance can be reached, without the key; "" for nowhere.
        """
        return self._run(self._send_join_request(name, url))

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        url, seconds = self.address.url, self._waits.total_seconds

        async def limited() -> T:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            try:
                if self._closed:
                    call.close()
                    raise asyncio.CancelledError
                async with asyncio.timeout(seconds):
                    return await call
            finally:
                self._cancel = lambda: None

        try:
            with ThreadPoolExecutor(1, "peer") as thread:  # of its own: the caller's may be running an event loop
                return thread.submit(asyncio.run, limited()).result()
        except (asyncio.CancelledError, CancelledError) as e:
            raise PeerUnavailable(f"the call to {url} was given up") from e
        except TimeoutError as e:
            raise PeerUnavailable(f"{url} took longer than {seconds:g} seconds") from e
        except httpx.TimeoutException as e:
            raise PeerUnavailable(f"{url} did not answer in time") from e
        except httpx.HTTPError as e:
            raise PeerUnavailable(f"{url} cannot be reached: {shown(str(e) or type(e).__name__)}") from e
        except (httpx.InvalidURL, UnicodeError) as e:
            raise PeerUnavailable(f"{url} is not an address that can be asked") from e
        except OSError as e:
            raise FederationError(f"the update cannot be read or stored: {e.strerror or e}") from e

    async def _card(self) -> Card:
        async with self._request("GET", CARD, signed=False) as response:
            return read_card(await self._small(response, MAX_CARD_BYTES), self.address.key)

    async def _pull(self, inbox: Path, etag: str) -> Pulled | None:
        headers = {"If-None-Match": f'"{etag}"'} if etag else {}
        async with self._request("GET", UPDATE, headers=headers) as response:
            if response.status_code in (204, 304):
                return None
            match = _ETAG.fullmatch(response.headers.get("ETag", ""))
            if match is None:
                raise PeerUntrusted(f"{self.address.url} sent an update without an etag")
            path = inbox / f"{PARTIAL_PREFIX}{secrets.token_hex(16)}{PARTIAL_SUFFIX}"
            try:
                with path.open("xb") as file:
                    async for chunk in self._limited(response, self._max_update_bytes):
                        file.write(chunk)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            return Pulled(path, match[1])

    async def _push(self, path: Path) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            headers = {"Content-Length": str(file.tell()), "Content-Type": "application/octet-stream"}
            file.seek(0)

            async def body() -> AsyncIterator[bytes]:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

            async with self._request("POST", UPDATE, digest, headers, body()) as response:
                await self._small(response, MAX_ANSWER_BYTES)

    async def _send_join_request(self, name: str, url: str) -> bool:
        body = canonical_json({"name": name[:MAX_NAME_CHARACTERS], "url": url}).encode()
        headers = {"Content-Type": "application/json"}
        async with self._request("POST", KNOCK, hashlib.sha256(body).hexdigest(), headers, body) as response:
            await self._small(response, MAX_ANSWER_BYTES)
            return response.status_code == 200

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        body_sha256: str = NO_BODY,
        headers: dict[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        signed: bool = True,
    ) -> AsyncIterator[httpx.Response]:
        """An answer whose status is 2xx or 304 and whose body is still to be read; all else is raised."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "spear-chat", **(headers or {})}
        if signed:
            headers[HEADER] = sign_request(self._identity, self.address.key, method, path, self._clock(), body_sha256)
        waits = self._waits
        timeout = httpx.Timeout(waits.read_seconds, connect=waits.connect_seconds, pool=waits.connect_seconds)
        async with (
            httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False, verify=self._verify) as http,
            http.stream(method, self.address.url + path, headers=headers, content=body) as response,
        ):
            await self._check_status(response)
            yield response

    async def _check_status(self, response: httpx.Response) -> None:
        status, url = response.status_code, self.address.url
        if response.is_success or (status == 304 and "If-None-Match" in response.request.headers):
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise PeerUntrusted(f"{url} sent a compressed answer that was not asked for")
            return
        if response.is_redirect or 300 <= status < 400:
            raise PeerUntrusted(f"{url} sends us elsewhere; redirects are not followed, so correct the peer's address")
        reason = await self._reason(response)
        if status in BUSY or status >= 500:
            after = response.headers.get("Retry-After", "")
            seconds = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else None
            raise PeerUnavailable(f"{url} is busy: {reason}", seconds)
        raise PeerRefused(f"{url} refused: {reason}", status)

    async def _reason(self, response: httpx.Response) -> str:
        try:
            said = strict_json(await self._small(response, MAX_ANSWER_BYTES))["error"]
            return shown(said, 200) if isinstance(said, str) else f"status {response.status_code}"
        except (ValueError, KeyError, TypeError, PeerUntrusted, httpx.HTTPError):
            return f"status {response.status_code}"

    async def _small(self, response: httpx.Response, most: int) -> bytes:
        return b"".join([chunk async for chunk in self._limited(response, most)])

    async def _limited(self, response: httpx.Response, most: int) -> AsyncIterator[bytes]:
        """The body as it comes. Raises PeerUntrusted beyond `most` bytes, at once where that length is declared."""
        declared = response.headers.get("Content-Length", "0")
        too_large = f"{self.address.url} answered with more than the {most} bytes that are taken"
        if len(declared) > 15 or (declared.isdigit() and int(declared) > most):
            raise PeerUntrusted(too_large)
        got = 0
        async for chunk in response.aiter_raw():
            got += len(chunk)
            if got > most:
                raise PeerUntrusted(too_large)
            yield chunk
