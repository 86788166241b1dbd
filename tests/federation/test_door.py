"""The server's decisions without a server: who may in, how often, and that no flood makes it grow."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.card import read_card, write_card
from federation.desk import clear_partial
from federation.door import KNOCK, UPDATE, Buckets, Door, DoorLimits
from federation.errors import PeerUntrusted, RequestRefused
from federation.keys import Identity, PublicKey
from federation.knocks import Knock, Knocks
from federation.passes import NO_BODY, Nonces, make_pass, read_pass
from federation.strict_json import canonical_json
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
def desk(tmp_path: Path) -> FolderDesk:
    return FolderDesk(tmp_path, keys={PEER.public})


@pytest.fixture
def door(desk: FolderDesk, clock: Hands) -> Door:
    return Door(desk, DoorLimits(burst=5), clock, clock)


def passed(door: Door, who: Identity = PEER, method: str = "GET", path: str = UPDATE, at: float = NOW) -> str:
    return make_pass(who, door.desk.identity.public, method, path, at)


def refused(door: Door, header: str | None, remote: str = "192.0.2.1") -> tuple[int, str]:
    with pytest.raises(RequestRefused) as refusal:
        door.admit("GET", UPDATE, header, remote)
    return refusal.value.status, str(refusal.value)


def test_an_approved_peer_is_let_in_once_with_each_pass(door: Door) -> None:
    header = passed(door)
    assert door.admit("GET", UPDATE, header, "192.0.2.1").key == PEER.public
    assert refused(door, header) == (401, "the request was made before; make a new one")


@pytest.mark.parametrize("apart", [-600, 600])
def test_clocks_may_be_ten_minutes_apart(door: Door, apart: int) -> None:
    door.admit("GET", UPDATE, passed(door, at=NOW + apart), "192.0.2.1")


def test_a_pass_is_good_for_one_request_to_one_peer_at_one_time(door: Door) -> None:
    other = Identity.new().public
    good = passed(door)
    key, time, nonce, digest, signature = good.split(".")
    for header, says in (
        (None, "carries no Spear-Pass header"),
        ("", "is damaged"),
        ("x" * 10_000, "is damaged"),
        ("ü.1.2.3.4", "is damaged"),
        (good + ".more", "is damaged"),
        (good.replace(f".{time}.", ".-1."), "is damaged"),
        (good.replace(f".{time}.", f".{time}999999999."), "is damaged"),
        (passed(door, method="POST"), "does not hold"),
        (passed(door, path="/federation/other"), "does not hold"),
        (make_pass(PEER, other, "GET", UPDATE, NOW), "does not hold"),
        (good.replace(f".{time}.", f".{NOW + 1}."), "does not hold"),
        (good.replace(f".{digest}.", f".{'0' * 64}."), "does not hold"),
        (good.replace(key, STRANGER.public.text), "is not approved here"),
        (passed(door, at=NOW + 1000), "17 minutes apart"),
        (passed(door, at=NOW - 1000), "17 minutes apart"),
    ):
        door.strangers = Buckets(1, 5, 10)
        status, said = refused(door, header)
        assert says in said and status in (401, 403), header


def test_an_unknown_or_removed_key_is_turned_away_with_the_way_in(door: Door, desk: FolderDesk) -> None:
    status, said = refused(door, passed(door, STRANGER))
    assert status == 403 and said == (
        f"the key {STRANGER.public.fingerprint} is not approved here; knock and wait for a yes"
    )
    door.admit("GET", UPDATE, passed(door), "192.0.2.1")
    desk.keys.clear()
    assert refused(door, passed(door))[0] == 403
    assert len(door.nonces) == 0


def test_a_flood_of_strangers_does_not_shut_out_a_peer_at_the_same_address(door: Door, clock: Hands) -> None:
    answers = [refused(door, passed(door, STRANGER), "127.0.0.1")[0] for _ in range(20)]
    assert answers == [403] * 5 + [429] * 15
    door.admit("GET", UPDATE, passed(door), "127.0.0.1")
    clock.now += 2  # one request a second comes back
    assert refused(door, passed(door, STRANGER), "127.0.0.1")[0] == 403


def test_a_peer_that_asks_too_often_is_told_to_wait(door: Door) -> None:
    for _ in range(5):
        door.admit("GET", UPDATE, passed(door), "192.0.2.1")
    assert refused(door, passed(door)) == (429, "too many requests of this peer; try again later")


def test_all_of_an_ipv6_network_is_one_address(door: Door) -> None:
    statuses = [refused(door, None, f"2001:db8::{i:x}")[0] for i in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    assert refused(door, None, "2001:db8:0:1::1")[0] == 401
    assert refused(door, None, "")[0] == 401


def test_a_flood_of_ten_thousand_requests_grows_nothing(door: Door, desk: FolderDesk) -> None:
    strangers = [Identity.new() for _ in range(50)]
    body = canonical_json({"name": "x", "url": ""}).encode()
    digest = hashlib.sha256(body).hexdigest()
    knocks = [make_pass(s, desk.identity.public, "POST", KNOCK, NOW, digest) for s in strangers]
    gets = [passed(door, s) for s in strangers]

    def flood(count: int, start: int) -> int:
        turned_away = 0
        for i in range(start, start + count):
            remote = f"10.{i // 65536}.{i // 256 % 256}.{i % 256}"
            try:
                if i % 10:
                    door.admit("GET", UPDATE, gets[i % 50] if i % 3 else "junk" * 20, remote)
                else:
                    door.pass_stranger(remote)
                    door.knock(knocks[i % 50], body, digest, remote)
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
    assert len(door.strangers) <= 1024 and len(door.peers) == 0 and len(door.nonces) == 0
    assert len(desk.knocks.waiting()) <= 32
    door.admit("GET", UPDATE, passed(door), "10.0.0.1")  # and the peer still gets in


def test_passes_in_use_are_bounded_and_forgotten_in_time() -> None:
    nonces = Nonces(window_seconds=100, most_per_key=4)
    assert all(nonces.use(PEER.public, str(i), NOW, NOW) for i in range(4))
    assert not nonces.use(PEER.public, "0", NOW, NOW)
    assert not nonces.use(PEER.public, "new", NOW, NOW)  # full: refused rather than one forgotten too early
    assert nonces.use(PEER.public, "new", NOW + 101, NOW + 101)
    assert len(nonces) == 1


def test_transfers_of_a_peer_are_counted(door: Door) -> None:
    with door.transfer("take", PEER.public, most=1):
        with pytest.raises(RequestRefused, match="under way"), door.transfer("take", PEER.public, most=1):
            pass
        with door.transfer("give", PEER.public), door.transfer("take", STRANGER.public, most=1):
            pass
    with door.transfer("take", PEER.public, most=1):
        pass


@pytest.mark.parametrize(
    ("declared", "status"),
    [(None, 411), ("", 411), ("-1", 411), ("1e3", 411), ("٣", 411), ("101", 413), ("9" * 5000, 413)],
)
def test_a_length_is_needed_and_bounded(door: Door, declared: str | None, status: int) -> None:
    with pytest.raises(RequestRefused) as refusal:
        door.check_length(declared, 100)
    assert refusal.value.status == status
    assert door.check_length("100", 100) == 100


def knock(door: Door, who: Identity, body: bytes, remote: str = "192.0.2.1") -> bool:
    digest = hashlib.sha256(body).hexdigest()
    header = make_pass(who, door.desk.identity.public, "POST", KNOCK, NOW, digest)
    return door.knock(header, body, digest, remote)


def test_a_stranger_knocks_and_waits(door: Door, desk: FolderDesk) -> None:
    assert not knock(door, STRANGER, b'{"name":" Ann\\u0000\\n ","url":"http://192.0.2.7:7860/"}')
    (waiting,) = desk.knocks.waiting()
    assert (waiting.key, waiting.name, waiting.remote) == (STRANGER.public, "Ann", "192.0.2.1")
    assert waiting.address == f"http://192.0.2.7:7860#{STRANGER.public.text}"
    assert knock(door, PEER, b'{"name":"","url":""}')  # approved already
    assert desk.knocks.remove(STRANGER.public) == waiting and not desk.knocks.waiting()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"name":1,"url":""}', b'{"name":"","url":"file:///etc"}', b'{"name":"","url":"","x":1}']
    + [b'{"name":"","url":"http://me:pw@host"}', b"[" * 2000, b"\xff"],
)
def test_a_bad_knock_is_refused(door: Door, desk: FolderDesk, body: bytes) -> None:
    with pytest.raises(RequestRefused, match="a knock holds a name and a url"):
        knock(door, STRANGER, body)
    assert not desk.knocks.waiting()


def test_a_knock_signed_over_another_body_is_refused(door: Door) -> None:
    header = make_pass(STRANGER, door.desk.identity.public, "POST", KNOCK, NOW, NO_BODY)
    with pytest.raises(RequestRefused, match="does not hold"):
        door.knock(header, b"{}", hashlib.sha256(b"{}").hexdigest(), "192.0.2.1")


def test_a_full_line_keeps_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Knocks(most=3, most_per_remote=2, expire_seconds=100)

    def add(number: int, remote: str, at: float = NOW) -> None:
        line.add(Knock(PublicKey(bytes([number]) * 32), "", "", remote, at))

    add(1, "a")
    add(2, "a")
    with pytest.raises(RequestRefused, match="too many peers are waiting"):
        add(3, "a")
    add(4, "b")
    with pytest.raises(RequestRefused, match="too many peers are waiting"):
        add(5, "c")
    add(1, "a")  # the same again is no newcomer
    assert [k.key.raw[0] for k in line.waiting()] == [1, 2, 4]
    add(6, "c", NOW + 101)  # the others have expired
    assert [k.key.raw[0] for k in line.waiting()] == [6]


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


def test_a_pass_reads_as_it_was_made(door: Door) -> None:
    found = read_pass(passed(door))
    assert (found.key, found.time, found.body_sha256) == (PEER.public, NOW, NO_BODY)
    assert found.verify("GET", UPDATE, door.desk.identity.public)
