"""The server's decisions without a server: who may in, how often, and that no flood makes it grow."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.canonical_json import canonical_json
from federation.errors import PeerUntrusted, RequestRefused
from federation.guard import KNOCK, UPDATE, Buckets, GuardLimits, RequestGuard
from federation.identity import Identity, PublicKey
from federation.join_requests import JoinRequest, JoinRequests
from federation.peer_card import read_card, write_card
from federation.peer_host import clear_partial
from federation.request_signing import NO_BODY, Nonces, parse_request_signature, sign_request
from tests.federation.circle import BASE, NOW, FolderDesk

PEER, STRANGER = Identity.new(), Identity.new()


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def peer_host(tmp_path: Path) -> FolderDesk:
    return FolderDesk(tmp_path, keys={PEER.public})


@pytest.fixture
def guard(peer_host: FolderDesk, clock: Hands) -> RequestGuard:
    return RequestGuard(peer_host, GuardLimits(burst=5), clock, clock)


def passed(guard: RequestGuard, who: Identity = PEER, method: str = "GET", path: str = UPDATE, at: float = NOW) -> str:
    return sign_request(who, guard.peer_host.identity.public, method, path, at)


def refused(guard: RequestGuard, header: str | None, remote: str = "192.0.2.1") -> tuple[int, str]:
    with pytest.raises(RequestRefused) as refusal:
        guard.admit("GET", UPDATE, header, remote)
    return refusal.value.status, str(refusal.value)


def test_an_approved_peer_is_let_in_once_with_each_pass(guard: RequestGuard) -> None:
    header = passed(guard)
    assert guard.admit("GET", UPDATE, header, "192.0.2.1").key == PEER.public
    assert refused(guard, header) == (401, "the request was made before; make a new one")


@pytest.mark.parametrize("apart", [-600, 600])
def test_clocks_may_be_ten_minutes_apart(guard: RequestGuard, apart: int) -> None:
    guard.admit("GET", UPDATE, passed(guard, at=NOW + apart), "192.0.2.1")


def test_a_pass_is_good_for_one_request_to_one_peer_at_one_time(guard: RequestGuard) -> None:
    other = Identity.new().public
    good = passed(guard)
    key, time, nonce, digest, signature = good.split(".")
    for header, says in (
        (None, "carries no Spear-Pass header"),
        ("", "is damaged"),
        ("x" * 10_000, "is damaged"),
        ("ü.1.2.3.4", "is damaged"),
        (good + ".more", "is damaged"),
        (good.replace(f".{time}.", ".-1."), "is damaged"),
        (good.replace(f".{time}.", f".{time}999999999."), "is damaged"),
        (passed(guard, method="POST"), "does not hold"),
        (passed(guard, path="/federation/other"), "does not hold"),
        (sign_request(PEER, other, "GET", UPDATE, NOW), "does not hold"),
        (good.replace(f".{time}.", f".{NOW + 1}."), "does not hold"),
        (good.replace(f".{digest}.", f".{'0' * 64}."), "does not hold"),
        (good.replace(key, STRANGER.public.text), "is not approved here"),
        (passed(guard, at=NOW + 1000), "17 minutes apart"),
        (passed(guard, at=NOW - 1000), "17 minutes apart"),
    ):
        guard.strangers = Buckets(1, 5, 10)
        status, said = refused(guard, header)
        assert says in said and status in (401, 403), header


def test_an_unknown_or_removed_key_is_turned_away_with_the_way_in(guard: RequestGuard, peer_host: FolderDesk) -> None:
    status, said = refused(guard, passed(guard, STRANGER))
    assert status == 403 and said == (
        f"the key {STRANGER.public.fingerprint} is not approved here; ask to join and wait for approval"
    )
    guard.admit("GET", UPDATE, passed(guard), "192.0.2.1")
    peer_host.keys.clear()
    assert refused(guard, passed(guard))[0] == 403


def test_a_used_signature_stays_refused_after_removal_approval_and_restart(
    guard: RequestGuard, peer_host: FolderDesk, clock: Hands
) -> None:
    header = passed(guard)
    peer_host.keep_used_request(guard.used(guard.admit("GET", UPDATE, header, "192.0.2.1")))
    peer_host.keys.clear()
    assert refused(guard, header)[0] == 403
    peer_host.keys.add(PEER.public)
    assert refused(guard, header) == (401, "the request was made before; make a new one")
    restarted = RequestGuard(peer_host, guard.limits, clock=guard._clock, ticks=guard._ticks)
    assert refused(restarted, header) == (401, "the request was made before; make a new one")
    restarted.admit("GET", UPDATE, passed(restarted), "192.0.2.1")


def test_a_flood_of_strangers_does_not_shut_out_a_peer_at_the_same_address(guard: RequestGuard, clock: Hands) -> None:
    answers = [refused(guard, passed(guard, STRANGER), "127.0.0.1")[0] for _ in range(20)]
    assert answers == [403] * 5 + [429] * 15
    guard.admit("GET", UPDATE, passed(guard), "127.0.0.1")
    clock.now += 2  # one request a second comes back
    assert refused(guard, passed(guard, STRANGER), "127.0.0.1")[0] == 403


def test_a_peer_that_asks_too_often_is_told_to_wait(guard: RequestGuard) -> None:
    for _ in range(5):
        guard.admit("GET", UPDATE, passed(guard), "192.0.2.1")
    assert refused(guard, passed(guard)) == (429, "too many requests of this peer; try again later")


def test_all_of_an_ipv6_network_is_one_address(guard: RequestGuard) -> None:
    statuses = [refused(guard, None, f"2001:db8::{i:x}")[0] for i in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    assert refused(guard, None, "2001:db8:0:1::1")[0] == 401
    assert refused(guard, None, "")[0] == 401


@pytest.mark.slow
def test_a_flood_of_ten_thousand_requests_grows_nothing(guard: RequestGuard, peer_host: FolderDesk) -> None:
    strangers = [Identity.new() for _ in range(50)]
    body = canonical_json({"name": "x", "url": ""}).encode()
    digest = hashlib.sha256(body).hexdigest()
    join_requests = [sign_request(s, peer_host.identity.public, "POST", KNOCK, NOW, digest) for s in strangers]
    gets = [passed(guard, s) for s in strangers]

    def flood(count: int, start: int) -> int:
        turned_away = 0
        for i in range(start, start + count):
            remote = f"10.{i // 65536}.{i // 256 % 256}.{i % 256}"
            try:
                if i % 10:
                    guard.admit("GET", UPDATE, gets[i % 50] if i % 3 else "junk" * 20, remote)
                else:
                    guard.pass_stranger(remote)
                    guard.join_request(join_requests[i % 50], body, digest, remote)
            except RequestRefused:
                turned_away += 1
        return turned_away

    tracemalloc.start()
    flood(1500, 0)  # fills all that is bounded
    before = tracemalloc.get_traced_memory()[0]
    flood(10_000, 1500)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50_000
    assert len(guard.strangers) <= 1024 and len(guard.peers) == 0 and len(guard.nonces) == 0
    assert len(peer_host.join_requests.waiting()) <= 32
    guard.admit("GET", UPDATE, passed(guard), "10.0.0.1")  # and the peer still gets in


def test_passes_in_use_are_bounded_and_forgotten_in_time() -> None:
    nonces = Nonces(window_seconds=100, most_per_key=4)
    assert all(nonces.use(PEER.public, str(i), NOW, NOW) for i in range(4))
    assert not nonces.use(PEER.public, "0", NOW, NOW)
    assert not nonces.use(PEER.public, "new", NOW, NOW)  # full: refused rather than one forgotten too early
    assert nonces.use(PEER.public, "new", NOW + 101, NOW + 101)
    assert len(nonces) == 1


def test_transfers_of_a_peer_are_counted(guard: RequestGuard) -> None:
    with guard.transfer("take", PEER.public, most=1):
        with pytest.raises(RequestRefused, match="under way"), guard.transfer("take", PEER.public, most=1):
            pass
        with guard.transfer("give", PEER.public), guard.transfer("take", STRANGER.public, most=1):
            pass
    with guard.transfer("take", PEER.public, most=1):
        pass


@pytest.mark.parametrize(
    ("declared", "status"),
    [(None, 411), ("", 411), ("-1", 411), ("1e3", 411), ("٣", 411), ("101", 413), ("9" * 5000, 413)],
)
def test_a_length_is_needed_and_bounded(guard: RequestGuard, declared: str | None, status: int) -> None:
    with pytest.raises(RequestRefused) as refusal:
        guard.check_length(declared, 100)
    assert refusal.value.status == status
    assert guard.check_length("100", 100) == 100


def join_request(guard: RequestGuard, who: Identity, body: bytes, remote: str = "192.0.2.1") -> bool:
    digest = hashlib.sha256(body).hexdigest()
    header = sign_request(who, guard.peer_host.identity.public, "POST", KNOCK, NOW, digest)
    return guard.join_request(header, body, digest, remote)


def test_a_stranger_knocks_and_waits(guard: RequestGuard, peer_host: FolderDesk) -> None:
    assert not join_request(guard, STRANGER, b'{"name":" Ann\\u0000\\n ","url":"http://192.0.2.7:7860/"}')
    (waiting,) = peer_host.join_requests.waiting()
    assert (waiting.key, waiting.name, waiting.remote) == (STRANGER.public, "Ann", "192.0.2.1")
    assert waiting.address == f"http://192.0.2.7:7860#{STRANGER.public.text}"
    assert join_request(guard, PEER, b'{"name":"","url":""}')  # approved already
    assert peer_host.join_requests.remove(STRANGER.public) == waiting and not peer_host.join_requests.waiting()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"name":1,"url":""}', b'{"name":"","url":"file:///etc"}', b'{"name":"","url":"","x":1}']
    + [b'{"name":"","url":"http://me:pw@host"}', b"[" * 2000, b"\xff"],
)
def test_a_bad_knock_is_refused(guard: RequestGuard, peer_host: FolderDesk, body: bytes) -> None:
    with pytest.raises(RequestRefused, match="a request to join holds a name and a url"):
        join_request(guard, STRANGER, body)
    assert not peer_host.join_requests.waiting()


def test_a_knock_signed_over_another_body_is_refused(guard: RequestGuard) -> None:
    header = sign_request(STRANGER, guard.peer_host.identity.public, "POST", KNOCK, NOW, NO_BODY)
    with pytest.raises(RequestRefused, match="does not hold"):
        guard.join_request(header, b"{}", hashlib.sha256(b"{}").hexdigest(), "192.0.2.1")


def test_a_full_line_keeps_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    line = JoinRequests(most=3, most_per_remote=2, expire_seconds=100)

    def add(number: int, remote: str, at: float = NOW) -> None:
        line.add(JoinRequest(PublicKey(bytes([number]) * 32), "", "", remote, at))

    add(1, "192.0.2.1")
    add(2, "192.0.2.1")
    with pytest.raises(RequestRefused, match="too many peers are waiting"):
        add(3, "192.0.2.1")
    add(4, "192.0.2.2")
    with pytest.raises(RequestRefused, match="too many peers are waiting"):
        add(5, "192.0.2.3")
    add(1, "192.0.2.1")  # the same again is no newcomer
    assert [k.key.raw[0] for k in line.waiting()] == [1, 2, 4]
    add(6, "192.0.2.3", NOW + 101)  # the others have expired
    assert [k.key.raw[0] for k in line.waiting()] == [6]


def test_all_addresses_of_an_ipv6_network_count_as_one() -> None:
    line = JoinRequests(most=10, most_per_remote=2)
    for number in range(2):
        line.add(JoinRequest(PublicKey(bytes([number]) * 32), "", "", f"2001:db8::{number}", NOW))
    with pytest.raises(RequestRefused, match="too many peers are waiting"):
        line.add(JoinRequest(PublicKey(bytes([9]) * 32), "", "", "2001:db8::9", NOW))
    line.add(JoinRequest(PublicKey(bytes([8]) * 32), "", "", "2001:db8:0:1::1", NOW))


def test_a_card_is_believed_of_the_pinned_key_only() -> None:
    data = write_card(PEER, BASE, "e" * 32, 7)
    card = read_card(data, PEER.public)
    assert (card.peer, card.base, card.etag, card.round) == (PEER.public.text, BASE, "e" * 32, 7)
    with pytest.raises(PeerUntrusted, match=f"does not hold the key {STRANGER.public.fingerprint}"):
        read_card(data, STRANGER.public)
    with pytest.raises(PeerUntrusted, match="does not hold the key"):
        read_card(data.replace(b'round\\":7', b'round\\":8'), PEER.public)
    changes: list[Callable[[bytes], bytes]] = [
        lambda d: b"<html>",
        lambda d: d[:-5],
        lambda d: b"[]",
        lambda d: b'{"card":1,"signature":"x"}',
        lambda d: d.replace(b'round\\":7', b'round\\":\\"7\\"'),
        lambda d: d.replace(b"round", b"rounds"),
        lambda d: b"[" * 4000,
    ]
    for change in changes:
        with pytest.raises(PeerUntrusted, match="cannot be read"):
            read_card(change(data), PEER.public)


def test_what_a_killed_process_left_half_received_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".incoming-0123.part").write_bytes(b"half")
    (tmp_path / "kept.safetensors").write_bytes(b"whole")
    assert clear_partial(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["kept.safetensors"]


def test_a_pass_reads_as_it_was_made(guard: RequestGuard) -> None:
    found = parse_request_signature(passed(guard))
    assert (found.key, found.time, found.body_sha256) == (PEER.public, NOW, NO_BODY)
    assert found.verify("GET", UPDATE, guard.peer_host.identity.public)
