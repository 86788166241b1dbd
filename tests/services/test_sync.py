"""Peers on the real pocket model, over HTTP on loopback: what one is taught the others answer, and nothing hostile passes."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from federation.desk import Offer
from federation.errors import AddressInvalid, FederationError, UpdateRefused
from federation.exchange import PeerClient
from federation.keys import Identity, PublicKey
from federation.manifest import Manifest
from federation.peers import PeerAddress
from federation.update import write_update
from services.federation_settings import FederationSettings
from services.workbench import Workbench
from spear_core.errors import ConfigError, SpearError
from tests.services.bench_desk import ask, correct, wrong_task
from tests.services.circle_desk import admit, serve
from tests.services.conftest import OpenPeer


@pytest.fixture
def pair(open_peer: OpenPeer) -> Iterator[tuple[Workbench, Workbench]]:
    """Two workbenches that know each other; the first was corrected once."""
    first, second = open_peer("first"), open_peer("second")
    with ExitStack() as stack:
        of_first, of_second = serve(first, stack), serve(second, stack)
        first.sync.add(of_second)
        second.sync.add(of_first)
        yield first, second


def hostile(bench: Workbench, path: Path, author: Identity, **changes: float) -> Manifest:
    """A well-formed update of a peer that wants harm: random factors, signed, of the right shape."""
    torch.manual_seed(1)
    state = {name: torch.randn_like(t) * changes.get("size", 0.05) for name, t in bench.engine.twins.initial.items()}
    return write_update(
        path,
        state,
        author,
        base=bench.engine.base,
        alpha=bench.engine.config.lora_alpha,
        round=int(changes.get("round", 1)),
        wins=1_000_000,
        parent=bench.sync.merging.first.digest,
        created_at_utc=int(time.time()),
    )


def test_what_one_peer_was_taught_the_other_answers(pair: tuple[Workbench, Workbench]) -> None:
    first, second = pair
    task = wrong_task(first)
    correct(first, task)
    first.learning.run_pending()
    assert not task.verdict(ask(second, task.question, learn=False).text)
    first.sync.sync()  # publishes and pushes
    second.sync.sync()  # has it already, and merges
    assert task.verdict(ask(second, task.question, learn=False).text)
    [merge] = second.sync.view().merges
    assert merge.version == 1 and len(merge.peers) == 1
    assert second.learning.adapters()[0].summary == merge.words and "1 peer taught" in merge.words
    second.sync.sync()
    assert len(second.sync.view().merges) == 1, "nothing is merged twice"


def test_a_merge_keeps_what_the_peer_itself_was_taught(pair: tuple[Workbench, Workbench]) -> None:
    first, second = pair
    tasks = [wrong_task(first, 0), wrong_task(first, 1)]
    for bench, task in zip(pair, tasks, strict=True):
        correct(bench, task)
        bench.learning.run_pending()
    for _ in range(4):
        for bench in pair:
            bench.sync.sync()
    for bench in pair:
        for task in tasks:
            assert task.verdict(ask(bench, task.question, learn=False).text), task.question


def test_a_merge_is_undone_like_a_correction_and_not_done_again(pair: tuple[Workbench, Workbench]) -> None:
    first, second = pair
    task = wrong_task(first)
    correct(first, task)
    first.learning.run_pending()
    first.sync.sync()
    second.sync.sync()
    assert second.learning.roll_back() == 0
    assert second.sync.latest() is None, "what was undone is offered no more"
    second.sync.sync()
    assert second.learning.lineage.version == 0
    assert not task.verdict(ask(second, task.question, learn=False).text)


def test_a_rolled_back_adapter_is_offered_no_more_from_that_moment(pair: tuple[Workbench, Workbench]) -> None:
    first, _ = pair
    correct(first, wrong_task(first))
    first.learning.run_pending()
    first.sync.sync()
    assert first.sync.latest() is not None
    first.learning.roll_back()
    assert first.sync.latest() is None


def test_a_stranger_knocks_waits_and_is_taken_in_by_a_person(open_peer: OpenPeer) -> None:
    host, guest = open_peer("host"), open_peer("guest")
    with ExitStack() as stack:
        guest.sync.add(serve(host, stack))
        guest.sync.sync()
        assert "Waiting for this peer to approve" in guest.sync.view().peers[0].words
        [knock] = host.sync.view().knocks
        assert (knock.name, knock.fingerprint) == ("guest", guest.sync.view().fingerprint)
        host.sync.approve(knock.key)
        guest.sync.sync_now()
        guest.sync.sync()
        assert guest.sync.view().peers[0].words == "Up to date."
        host.sync.remove(knock.key)
        guest.sync.sync_now()
        guest.sync.sync()
        assert "Waiting" in guest.sync.view().peers[0].words, "removal is immediate"
        with pytest.raises(SpearError, match="knock again"):
            host.sync.approve(Identity.new().public.text)


def test_the_gate_refuses_a_harmful_merge_and_says_why(open_peer: OpenPeer, tmp_path: Path) -> None:
    bench, author = open_peer("bench"), Identity.new()
    before = ask(bench, "What can you do?", learn=False).text
    with ExitStack() as stack:
        address = serve(bench, stack)
        admit(bench, author)
        hostile(bench, tmp_path / "u.safetensors", author, size=0.3)
        client = PeerClient(author, PeerAddress(address.partition("#")[0], bench.sync.identity.public))
        client.push(tmp_path / "u.safetensors")
    bench.sync.sync()
    [merge] = bench.sync.view().merges
    assert merge.version is None and merge.words.startswith("Not kept: ") and merge.peers == ["mallory"]
    assert bench.learning.lineage.version == 0 and ask(bench, "What can you do?", learn=False).text == before


def test_hostile_updates_are_refused_with_a_reason_while_the_app_chats(open_peer: OpenPeer, tmp_path: Path) -> None:
    bench, author, other = open_peer("bench"), Identity.new(), Identity.new()
    admit(bench, author)
    path, refused, replies, done = tmp_path / "u.safetensors", [], [], threading.Event()

    def chat() -> None:
        while not done.is_set():
            replies.append(ask(bench, "What is the capital of France?", learn=False).text)

    def push(change: Callable[[], object]) -> None:
        change()
        with pytest.raises(UpdateRefused) as caught:
            bench.sync.receive(author.public, path)
        refused.append(caught.value.reason)

    chatting = threading.Thread(target=chat)
    chatting.start()
    try:
        push(lambda: torch.save({"a": torch.zeros(1)}, path))  # a pickle under another name
        push(lambda: (hostile(bench, path, author), path.write_bytes(path.read_bytes()[:-100])))
        push(lambda: hostile(bench, path, other))
        push(lambda: hostile(bench, path, author, size=50.0))
        push(lambda: hostile(bench, path, author, size=float("nan")))
        hostile(bench, path, author)
        taken = path.read_bytes()
        bench.sync.receive(author.public, path)
        push(lambda: path.write_bytes(taken))  # the same update again
        bench.sync.remove(author.public.text)
        push(lambda: hostile(bench, path, author, round=2))
    finally:
        done.set()
        chatting.join()
    for reason, said in zip(
        refused,
        ("header", "", "author", "too large", "finite", "taken before", "not approved"),
        strict=True,
    ):
        assert said in reason and reason.count(". ") == 0, reason
    assert len(set(replies)) == 1 and replies[0], "and no reply noticed"


def test_an_update_from_another_first_adapter_is_refused(pair: tuple[Workbench, Workbench], tmp_path: Path) -> None:
    first, second = pair
    path = tmp_path / "u.safetensors"
    state, author = first.engine.twins.initial, first.sync.identity
    words = {
        "base": first.engine.base,
        "alpha": first.engine.config.lora_alpha,
        "round": 1,
        "wins": 1,
        "parent": "ab" * 32,
    }
    write_update(path, state, author, created_at_utc=int(time.time()), **words)  # type: ignore[arg-type]
    with pytest.raises(UpdateRefused, match="another first adapter"):
        second.sync.receive(author.public, path)


def offer_of(bench: Workbench, path: Path, **changes: float) -> Offer:
    """A small update of a bench that was taught nothing."""
    manifest = hostile(bench, path, bench.sync.identity, **changes)
    return Offer(path, manifest.etag, manifest.round)


@pytest.fixture
def offering(
    pair: tuple[Workbench, Workbench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Workbench, Workbench]:
    """Two that have something to offer, merge nothing, and try again at once."""
    for bench in pair:
        offer = offer_of(bench, tmp_path / f"of {bench.sync.settings.name}")
        monkeypatch.setattr(bench.sync, "latest", lambda offer=offer: offer)
        bench.learning.pause()
    monkeypatch.setattr("services.sync.backoff_seconds", lambda failures, chance: 0.0)
    return pair


def test_a_push_refused_as_too_old_is_said_and_not_noted_as_sent(offering: tuple[Workbench, Workbench]) -> None:
    first, second = offering
    second.engine.store.note_update(first.sync.identity.public.text, "ab" * 16, 9, int(time.time()))
    first.sync.sync()
    [peer] = first.engine.store.peers()
    assert "refused: the update of round 1 is older than the one of round 9 that has been taken." in peer.words
    assert peer.pushed_etag == "" and peer.failures == 1


def test_an_update_that_a_peer_had_already_is_noted_and_not_said_to_be_sent(
    offering: tuple[Workbench, Workbench],
) -> None:
    first, second = offering
    offer = first.sync.latest()
    assert offer is not None
    second.sync.sync()  # pulls it
    first.sync.sync()
    [peer] = first.engine.store.peers()
    assert peer.words == "Up to date." and peer.pushed_etag == offer.etag


def test_a_peer_that_refuses_a_push_is_pulled_from_and_not_sent_the_same_again(
    offering: tuple[Workbench, Workbench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = offering
    arrived: list[Path] = []

    def refuse(author: PublicKey, path: Path) -> None:
        arrived.append(path)
        raise UpdateRefused("it does not fit")

    monkeypatch.setattr(second.sync, "receive", refuse)
    first.sync.sync()
    assert first.engine.store.peers()[0].seen_round == 1, "it was pulled from"
    newer = offer_of(second, tmp_path / "newer", round=2)
    monkeypatch.setattr(second.sync, "latest", lambda: newer)
    first.sync.sync()
    [peer] = first.engine.store.peers()
    assert peer.seen_round == 2 and peer.failures == 2 and "refused: it does not fit." in peer.words
    assert len(arrived) == 1, "the file was not sent a second time"
    first.sync.sync_now()
    first.sync.sync()
    assert len(arrived) == 2, "unless a person asks for it"


def test_a_peer_that_does_not_approve_us_is_knocked_at_after_a_push(offering: tuple[Workbench, Workbench]) -> None:
    first, second = offering
    second.sync.remove(first.sync.identity.public.text)
    first.sync.sync()
    assert "Waiting for this peer to approve" in first.sync.view().peers[0].words
    [knock] = second.sync.view().knocks
    second.sync.approve(knock.key)
    first.sync.sync()
    assert first.sync.view().peers[0].words == "Sent round 1 and took a new update."


def test_a_peer_that_is_down_is_one_line_and_is_left_alone_for_a_while(
    open_peer: OpenPeer, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    bench = open_peer("bench", peers=(f"http://127.0.0.1:{port}#{Identity.new().public.text}",))
    with caplog.at_level(logging.WARNING, "services.sync"):
        bench.sync.sync()
        bench.sync.sync()  # not its turn yet
        bench.sync.sync_now()
        bench.sync.sync()
    assert len(caplog.records) == 1 and "cannot be reached" in caplog.records[0].message
    assert bench.sync.view().peers[0].failures == 2


def test_nothing_is_merged_while_learning_is_paused(pair: tuple[Workbench, Workbench]) -> None:
    first, second = pair
    correct(first, wrong_task(first))
    first.learning.run_pending()
    second.learning.pause()
    first.sync.sync()
    second.sync.sync()
    assert second.learning.lineage.version == 0
    second.learning.resume()
    second.sync.sync()
    assert second.learning.lineage.version == 1


def test_closing_does_not_wait_for_a_peer_that_says_nothing(open_peer: OpenPeer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        bench = open_peer("bench", peers=(f"http://127.0.0.1:{port}#{Identity.new().public.text}",))
        syncing = threading.Thread(target=bench.sync.sync)
        syncing.start()
        silent.accept()
        bench.sync.close()
        syncing.join(timeout=10)
        assert not syncing.is_alive()


def test_peers_keys_and_numbers_outlive_a_restart(open_peer: OpenPeer) -> None:
    bench = open_peer("bench")
    correct(bench, wrong_task(bench))
    bench.learning.run_pending()
    bench.sync.add(f"http://127.0.0.1:9#{Identity.new().public.text}")
    bench.sync.sync()
    before, offer = bench.sync.view(), bench.sync.latest()
    bench.close()
    again = open_peer("bench")
    assert again.sync.view() == before and again.sync.latest() == offer


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://host:7860", "lacks the peer's key"),
        ("nonsense", "lacks"),
        ("ftp://host#" + "A" * 43, "names no http host"),
    ],
)
def test_a_wrong_address_is_one_sentence(open_peer: OpenPeer, address: str, says: str) -> None:
    bench = open_peer("bench")
    with pytest.raises(AddressInvalid, match=says):
        bench.sync.add(address)
    with pytest.raises(FederationError, match="own address"):
        bench.sync.add(f"http://host:1#{bench.sync.identity.public.text}")
    assert bench.sync.view().peers == ()


@pytest.mark.parametrize("wrong", [{"sync_every": "soon"}, {"sync_every": "1s"}, {"scale": 0.0}, {"address": "x"}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ConfigError, FederationError)):
        FederationSettings(**wrong)  # type: ignore[arg-type]


def test_an_interval_is_read_with_its_unit() -> None:
    assert [FederationSettings(sync_every=t).sync_seconds for t in ("30s", "10m", "2h", "45")] == [30, 600, 7200, 45]
