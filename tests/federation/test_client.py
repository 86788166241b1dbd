"""Client and server over real HTTP on loopback: the honest way, and everything that goes wrong on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from federation.client import PeerClient, Waits
from federation.errors import FederationError, PeerRefused, PeerUnavailable, PeerUntrusted
from federation.guard import CARD, UPDATE, GuardLimits
from federation.identity import Identity
from federation.peer_host import Offer
from federation.peers import PeerAddress
from federation.request_signing import HEADER, sign_request
from federation.update import open_update
from tests.federation.circle import NOW, FolderDesk, adapter, listening, raw_server, serving, write

ME = Identity.new()
WAITS = Waits(connect_seconds=5, read_seconds=10, total_seconds=30)


@pytest.fixture
def peer_host(tmp_path: Path) -> FolderDesk:
    return FolderDesk(tmp_path / "theirs", keys={ME.public})


@pytest.fixture
def peer(peer_host: FolderDesk) -> Iterator[PeerAddress]:
    with serving(peer_host) as address:
        yield address


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def client(address: PeerAddress, identity: Identity = ME, waits: Waits = WAITS, **more: int) -> PeerClient:
    return PeerClient(identity, address, waits, **more)  # type: ignore[arg-type]


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=5)


def answer_of(line: socket.socket) -> bytes:
    """One whole answer, head and body."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += line.recv(4096)
    start, _, body = said.partition(b"\r\n\r\n")
    length = int(start.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += line.recv(4096)
    return start + b"\r\n\r\n" + body


def head(peer_host: FolderDesk, length: object, identity: Identity = ME) -> bytes:
    """The signed head of a push, as an attacker would write it by hand."""
    header = sign_request(identity, peer_host.identity.public, "POST", UPDATE, time.time())
    lines = [f"POST {UPDATE} HTTP/1.1", "Host: x", f"{HEADER}: {header}", f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode()


# --- the honest way


def test_a_card_then_an_update_then_nothing_new(peer_host: FolderDesk, peer: PeerAddress, inbox: Path) -> None:
    asking = client(peer)
    assert asking.card().etag == ""
    assert asking.pull(inbox) is None
    manifest = peer_host.publish(round=1)
    assert asking.card().etag == manifest.etag and asking.card().round == 1
    pulled = asking.pull(inbox)
    assert pulled is not None and pulled.etag == manifest.etag
    update = open_update(pulled.path)
    assert update.manifest == manifest and update.signed_by_author() and update.content_matches()
    assert asking.pull(inbox, pulled.etag) is None
    newer = peer_host.publish(round=2)
    pulled = asking.pull(inbox, pulled.etag)
    assert pulled is not None and pulled.etag == newer.etag


def test_a_push_arrives_once(peer_host: FolderDesk, peer: PeerAddress, inbox: Path) -> None:
    path = inbox / "own.safetensors"
    write(path, ME, round=3)
    assert client(peer).push(path)
    (kept,) = peer_host.received
    assert kept.read_bytes() == path.read_bytes()
    assert not client(peer).push(path)  # a replay, as after an answer that was lost
    assert len(peer_host.received) == 1 and not peer_host.partial()


def test_an_older_push_is_refused_and_not_taken_for_one_that_arrived_before(
    peer_host: FolderDesk, peer: PeerAddress, inbox: Path
) -> None:
    path = inbox / "own.safetensors"
    write(path, ME, round=3)
    assert client(peer).push(path)
    write(path, ME, round=2)
    with pytest.raises(PeerRefused, match="the update of round 2 is older than the one of round 3 that has been taken"):
        client(peer).push(path)


def test_a_stranger_is_refused_knocks_and_is_let_in_after_a_yes(
    peer_host: FolderDesk, peer: PeerAddress, inbox: Path
) -> None:
    peer_host.publish()
    stranger = Identity.new()
    asking = client(peer, stranger)
    with pytest.raises(PeerRefused, match=f"the key {stranger.public.fingerprint} is not approved here") as refusal:
        asking.pull(inbox)
    assert refusal.value.status == 403
    write(inbox / "u", stranger)
    with pytest.raises(PeerRefused, match="is not approved here"):
        asking.push(inbox / "u")
    assert not asking.join_request("Ann's laptop", "http://127.0.0.1:7861")
    (waiting,) = peer_host.join_requests.waiting()
    assert (waiting.key, waiting.name) == (stranger.public, "Ann's laptop")
    peer_host.join_requests.remove(waiting.key)
    peer_host.keys.add(waiting.key)
    assert asking.join_request("Ann's laptop", "")
    assert asking.pull(inbox) is not None and asking.push(inbox / "u")
    peer_host.keys.remove(waiting.key)  # taken back: at once
    with pytest.raises(PeerRefused, match="is not approved here"):
        asking.pull(inbox)


def test_clocks_ten_minutes_apart_are_no_obstacle_and_an_hour_is(
    peer_host: FolderDesk, peer: PeerAddress, inbox: Path
) -> None:
    peer_host.publish()
    for apart in (-600, 600):
        assert PeerClient(ME, peer, WAITS, clock=lambda apart=apart: time.time() + apart).pull(inbox) is not None  # type: ignore[misc]
    with pytest.raises(PeerRefused, match="the clocks are 60 minutes apart"):
        PeerClient(ME, peer, WAITS, clock=lambda: time.time() + 3600).pull(inbox)


def test_a_peer_that_is_down_is_one_sentence_and_comes_back(peer_host: FolderDesk, inbox: Path) -> None:
    peer_host.publish()
    with serving(peer_host) as address:
        assert client(address).pull(inbox) is not None
    for call in (lambda: client(address).pull(inbox), lambda: client(address).card()):
        with pytest.raises(PeerUnavailable, match="127.0.0.1:.* cannot be reached"):
            call()
    with serving(peer_host) as address:
        assert client(address).pull(inbox) is not None


# --- a hostile client


def test_a_declared_length_of_five_gigabytes_is_refused_before_a_byte_is_read(
    peer_host: FolderDesk, peer: PeerAddress
) -> None:
    with connect(peer.url) as line:
        line.sendall(head(peer_host, 5 << 30))
        answer = answer_of(line)
    assert b"413" in answer.split(b"\r\n")[0] and b"larger than 268435456 bytes" in answer
    assert not peer_host.partial()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"411"),
        ("Content-Length: -5\r\n\r\n", b"400"),
        ("\r\n", b"411"),
    ],
)
def test_a_push_must_say_how_long_it_is(peer_host: FolderDesk, peer: PeerAddress, lines: str, status: bytes) -> None:
    header = sign_request(ME, peer_host.identity.public, "POST", UPDATE, time.time())
    with connect(peer.url) as line:
        line.sendall(f"POST {UPDATE} HTTP/1.1\r\nHost: x\r\n{HEADER}: {header}\r\n{lines}".encode())
        assert status in line.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "limits", [GuardLimits(idle_seconds=0.3), GuardLimits(transfer_seconds=0.5)], ids=["silent", "dripping"]
)
def test_a_slow_upload_is_cut_off_and_leaves_nothing(tmp_path: Path, limits: GuardLimits) -> None:
    peer_host = FolderDesk(tmp_path, keys={ME.public})
    with serving(peer_host, limits) as peer, connect(peer.url) as line:
        began = time.monotonic()
        line.sendall(head(peer_host, 1000))
        line.settimeout(0.1)
        answer = b""
        while not answer and time.monotonic() - began < 10:
            if limits.transfer_seconds < 1:
                line.sendall(b"x")
            try:
                answer = line.recv(1, socket.MSG_PEEK) and answer_of(line)
            except TimeoutError:
                continue
        assert b"408" in answer.split(b"\r\n")[0] and b"too slow" in answer
        assert time.monotonic() - began < 5
        assert not peer_host.partial() and not peer_host.received


def test_one_upload_of_a_peer_at_a_time_and_one_that_breaks_off_leaves_nothing(
    peer_host: FolderDesk, peer: PeerAddress, inbox: Path
) -> None:
    write(inbox / "u", ME)
    line = connect(peer.url)
    line.sendall(head(peer_host, 1000) + b"x" * 10)
    while not peer_host.partial():
        time.sleep(0.01)
    with pytest.raises(PeerUnavailable, match="another transfer of this peer is under way") as refusal:
        client(peer).push(inbox / "u")
    assert refusal.value.retry_after_seconds == 30
    line.close()  # killed in the middle of a push
    while peer_host.partial():
        time.sleep(0.01)
    assert client(peer).push(inbox / "u")  # and started again


def test_a_push_that_is_refused_says_why(peer_host: FolderDesk, peer: PeerAddress, inbox: Path) -> None:
    path = inbox / "u"
    other = Identity.new()
    write(path, other)
    with pytest.raises(PeerRefused, match=f"names the author {other.public.fingerprint}, not this peer"):
        client(peer).push(path)
    write(path, ME, base="f" * 16)
    with pytest.raises(PeerRefused, match="for another base model") as refusal:
        client(peer).push(path)
    assert refusal.value.status == 422
    path.write_bytes(b"\x80\x04\x95" + b"pickle" * 100)
    with pytest.raises(PeerRefused, match="not a safetensors file"):
        client(peer).push(path)
    write(path, ME, {n: t * 1000 for n, t in adapter(1).items()})
    with pytest.raises(PeerRefused, match="A matrices are too large"):
        client(peer).push(path)
    assert not peer_host.received and not peer_host.partial()


def test_a_push_larger_than_the_peer_takes_is_refused_with_the_reason(tmp_path: Path) -> None:
    peer_host = FolderDesk(tmp_path / "theirs", keys={ME.public})
    (tmp_path / "u").write_bytes(bytes(3 << 20))
    with (
        serving(peer_host, GuardLimits(max_update_bytes=1 << 20)) as peer,
        pytest.raises(PeerRefused, match="larger than 1048576 bytes"),
    ):
        client(peer).push(tmp_path / "u")


def test_a_body_that_was_changed_on_the_way_is_refused(peer_host: FolderDesk, peer: PeerAddress, inbox: Path) -> None:
    write(inbox / "u", ME)
    raw = (inbox / "u").read_bytes()
    with connect(peer.url) as line:
        line.sendall(head(peer_host, len(raw)) + raw)  # the head was signed for an empty body
        assert b"400" in line.recv(4096).split(b"\r\n")[0]
    assert not peer_host.received


def test_a_desk_that_cannot_store_says_so(peer_host: FolderDesk, peer: PeerAddress, inbox: Path) -> None:
    write(inbox / "u", ME)
    peer_host.folder = peer_host.folder / "gone"
    with pytest.raises(PeerUnavailable, match="cannot store the update"):
        client(peer).push(inbox / "u")
    peer_host.offer = Offer(peer_host.folder / "gone", "e" * 32, 1)
    with pytest.raises(PeerUnavailable, match="the update is gone"):
        client(peer).pull(inbox)


def test_the_server_answers_its_peer_during_a_flood(peer_host: FolderDesk, peer: PeerAddress, inbox: Path) -> None:
    peer_host.publish()
    request = f"GET {UPDATE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    answers: list[bytes] = []

    def flood() -> None:
        with connect(peer.url) as line:
            for _ in range(10):
                line.sendall(request * 60)
                seen = b""
                while seen.count(b"HTTP/1.1 4") < 60:
                    seen += line.recv(65536)
                answers.append(seen)

    flooding = threading.Thread(target=flood)
    flooding.start()
    for _ in range(3):
        pulled = client(peer).pull(inbox)
        assert pulled is not None
    flooding.join(20)
    everything = b"".join(answers)
    assert everything.count(b"HTTP/1.1 401") + everything.count(b"HTTP/1.1 429") == 600
    assert everything.count(b"HTTP/1.1 429") > 400


# --- a hostile server


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(tmp_path: Path, inbox: Path, status: int) -> None:
    visited: list[str] = []

    async def elsewhere(request: Request) -> Response:
        visited.append(request.url.path)
        return Response(b"")

    write(inbox / "u", ME)
    with listening(Starlette(routes=[Route("/{path:path}", elsewhere, methods=["GET", "POST"])])) as other:

        async def redirect(request: Request) -> Response:
            return RedirectResponse(f"{other}/stolen", status)

        with listening(Starlette(routes=[Route("/{path:path}", redirect, methods=["GET", "POST"])])) as url:
            asking = client(PeerAddress(url, ME.public))
            for call in (asking.card, lambda: asking.pull(inbox), lambda: asking.push(inbox / "u")):
                with pytest.raises(PeerUntrusted, match="redirects are not followed"):
                    call()
    assert not visited


def answers(status: int, headers: dict[str, str], body: bytes) -> Starlette:
    async def answer(request: Request) -> Response:
        return Response(body, status, headers)

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])


@pytest.mark.parametrize(
    ("status", "headers", "body", "error", "says"),
    [
        (200, {"ETag": '"' + "e" * 32 + '"'}, bytes(3000), PeerUntrusted, "more than the 2000 bytes"),
        (200, {}, b"", PeerUntrusted, "without an etag"),
        (304, {}, b"", PeerUntrusted, "sends us elsewhere"),  # although we named no etag
        (200, {"ETag": '"../../x"'}, b"", PeerUntrusted, "without an etag"),
        (200, {"Content-Encoding": "gzip"}, b"", PeerUntrusted, "a compressed answer"),
        (500, {}, b"\x1b[2J<script>", PeerUnavailable, "is busy: status 500"),
        (429, {"Retry-After": "17"}, b'{"error": "wait"}', PeerUnavailable, "is busy: wait"),
        (403, {}, b'{"error": "no\\u001b[2J\\n"}', PeerRefused, r"refused: no\?\[2J\?"),
        (403, {}, b'{"error": ' + b'"' + b"x" * 9000 + b'"}', PeerRefused, "refused: status 403"),
        (404, {}, b"[" * 3000, PeerRefused, "refused: status 404"),
    ],
)
def test_a_server_that_answers_badly_is_one_sentence(
    inbox: Path, status: int, headers: dict[str, str], body: bytes, error: type[FederationError], says: str
) -> None:
    with listening(answers(status, headers, body)) as url:
        asking = client(PeerAddress(url, ME.public), max_update_bytes=2000)
        with pytest.raises(error, match=says) as refusal:
            asking.pull(inbox)
    assert str(refusal.value).isprintable()
    assert not list(inbox.iterdir())


HEAD = b'HTTP/1.1 200 OK\r\nETag: "' + b"e" * 32 + b'"\r\n'


def drip(line: socket.socket, start: bytes) -> None:
    line.sendall(start)
    for _ in range(100):
        time.sleep(0.1)
        line.sendall(b"x")


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (lambda s: s.sendall(HEAD + b"Content-Length: 5368709120\r\n\r\n"), PeerUntrusted, "more than the 2000 bytes"),
        (lambda s: s.sendall(HEAD + b"Connection: close\r\n\r\n" + bytes(3000)), PeerUntrusted, "more than the 2000"),
        (lambda s: s.sendall(HEAD + b"Content-Length: 100\r\n\r\nhalf"), PeerUnavailable, "cannot be reached"),
        (lambda s: s.sendall(b"SSH-2.0-OpenSSH\r\n"), PeerUnavailable, "cannot be reached"),
        (lambda s: None, PeerUnavailable, "cannot be reached"),
        (lambda s: time.sleep(3), PeerUnavailable, "did not answer in time"),
        (lambda s: drip(s, HEAD + b"Content-Length: 1000\r\n\r\n"), PeerUnavailable, "took longer than 1 seconds"),
        (lambda s: drip(s, HEAD + b"More: "), PeerUnavailable, "took longer than 1 seconds"),
    ],
    ids=["5GB", "endless", "half", "ssh", "nothing", "silent", "dripping", "dripping-head"],
)
def test_a_server_that_misbehaves_costs_little_time_and_no_disk(
    inbox: Path, answer: object, error: type[FederationError], says: str
) -> None:
    waits = Waits(connect_seconds=0.5, read_seconds=0.5, total_seconds=1)
    with raw_server(answer) as url:  # type: ignore[arg-type]
        began = time.monotonic()
        with pytest.raises(error, match=says):
            client(PeerAddress(url, ME.public), waits=waits, max_update_bytes=2000).pull(inbox)
        assert time.monotonic() - began < 4
    assert not list(inbox.iterdir())


def test_a_card_of_another_key_or_endless_is_not_believed(peer_host: FolderDesk, peer: PeerAddress) -> None:
    other = Identity.new().public
    with pytest.raises(PeerUntrusted, match=f"does not hold the key {other.fingerprint}"):
        client(PeerAddress(peer.url, other)).card()
    with listening(answers(200, {}, b" " * 100_000)) as url, pytest.raises(PeerUntrusted, match="more than the 4096"):
        client(PeerAddress(url, other)).card()


def test_a_pass_shown_to_one_peer_is_of_no_use_at_another(
    peer_host: FolderDesk, peer: PeerAddress, inbox: Path
) -> None:
    """A hostile peer that relays our request cannot fetch in our name."""
    peer_host.publish()
    relayed: list[str] = []

    async def spy(request: Request) -> Response:
        relayed.append(request.headers[HEADER])
        return JSONResponse({"error": "busy"}, 503)

    with listening(Starlette(routes=[Route(UPDATE, spy)])) as url, pytest.raises(PeerUnavailable):
        client(PeerAddress(url, Identity.new().public)).pull(inbox)
    with connect(peer.url) as line:
        line.sendall(f"GET {UPDATE} HTTP/1.1\r\nHost: x\r\n{HEADER}: {relayed[0]}\r\n\r\n".encode())
        assert b"401" in line.recv(4096).split(b"\r\n")[0]


def test_a_slow_reader_is_cut_off(tmp_path: Path) -> None:
    peer_host = FolderDesk(tmp_path, keys={ME.public})
    big = tmp_path / "big"
    big.write_bytes(bytes(32 << 20))  # more than the sockets' buffers hold
    peer_host.offer = Offer(big, "e" * 32, 1)
    header = sign_request(ME, peer_host.identity.public, "GET", UPDATE, time.time())
    with serving(peer_host, GuardLimits(idle_seconds=0.3)) as peer, connect(peer.url) as line:
        line.sendall(f"GET {UPDATE} HTTP/1.1\r\nHost: x\r\n{HEADER}: {header}\r\n\r\n".encode())
        time.sleep(1.0)
        got = 0
        while piece := line.recv(1 << 20):
            got += len(piece)
    assert 0 < got < 32 << 20


def test_a_peer_that_is_removed_while_it_downloads_gets_no_more(tmp_path: Path) -> None:
    peer_host = FolderDesk(tmp_path, keys={ME.public})
    big = tmp_path / "big"
    big.write_bytes(bytes(32 << 20))  # more than the sockets' buffers hold
    peer_host.offer = Offer(big, "e" * 32, 1)
    header = sign_request(ME, peer_host.identity.public, "GET", UPDATE, time.time())
    with serving(peer_host) as peer, connect(peer.url) as line:
        line.sendall(f"GET {UPDATE} HTTP/1.1\r\nHost: x\r\n{HEADER}: {header}\r\n\r\n".encode())
        got = len(line.recv(1 << 10))
        peer_host.keys.clear()
        while piece := line.recv(1 << 20):
            got += len(piece)
    assert 0 < got < 32 << 20


def test_the_public_card_tells_no_more_than_the_card(peer_host: FolderDesk, peer: PeerAddress) -> None:
    manifest = peer_host.publish(created_at_utc=NOW)
    with connect(peer.url) as line:
        line.sendall(f"GET {CARD} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        said = b"".join(iter(lambda: line.recv(4096), b""))
    assert manifest.etag.encode() in said and str(peer_host.folder).encode() not in said
