"""Peers on the real pocket model, over HTTP on loopback: what one is taught the others answer, and nothing hostile passes."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from federation.aggregation_plan import Contribution
from federation.checks import Checked, check_update
from federation.client import PeerClient, Pulled
from federation.errors import AddressInvalid, FederationError, UpdateRefused
from federation.identity import KEY_FILE, Identity, PublicKey, open_identity
from federation.manifest import Manifest
from federation.peer_host import Offer
from federation.peers import PeerAddress
from federation.update import open_update, write_update
from feedback_store import Peer
from services.app import AppServices
from services.peers.merging import MergeOutcome
from services.peers.published_update import FOLDER
from services.peers.settings import FederationSettings
from spear_core.errors import ConfigError, SpearError
from tests.services.conftest import OpenPeer
from tests.services.harness import ask, correct, wrong_task
from tests.services.peers.circle_harness import admit, serve


@pytest.fixture
def pair(open_peer: OpenPeer) -> Iterator[tuple[AppServices, AppServices]]:
    """Two workbenches that know each other; the first was corrected once."""
    first, second = open_peer("first"), open_peer("second")
    with ExitStack() as stack:
        of_first, of_second = serve(first, stack), serve(second, stack)
        first.sync.add(of_second)
        second.sync.add(of_first)
        yield first, second


def hostile(app: AppServices, path: Path, author: Identity, **changes: float) -> Manifest:
    """A well-formed update of a peer that wants harm: random factors, signed, of the right shape."""
    torch.manual_seed(1)
    state = {
        name: torch.randn_like(t) * changes.get("size", 0.05) for name, t in app.engine.shared_models.initial.items()
    }
    return write_update(
        path,
        state,
        author,
        base=app.engine.base,
        alpha=app.engine.config.lora_alpha,
        round=int(changes.get("round", 1)),
        wins=1_000_000,
        parent=app.sync.merging.first.digest,
        created_at_utc=int(time.time()),
    )


@pytest.mark.slow
def test_what_one_peer_was_taught_the_other_answers(pair: tuple[AppServices, AppServices]) -> None:
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


def test_after_everything_was_erased_a_running_app_is_a_new_peer_with_the_peers_of_its_settings(
    open_peer: OpenPeer,
) -> None:
    named, stranger = Identity.new(), Identity.new()
    app = open_peer("erased", peers=(f"http://127.0.0.1:1#{named.public.text}",))
    admit(app, stranger)
    before = app.sync.identity.public
    app.erase()
    after = app.sync.identity.public
    assert after != before and open_identity(app.engine.data_folder / FOLDER / KEY_FILE).public == after
    assert app.sync.view().key == after.text
    assert app.sync.approved(named.public) and not app.sync.approved(stranger.public)
    assert [p.key for p in app.sync.view().peers] == [named.public.text]
    app.sync.sync()
    assert [p.key for p in app.engine.store.peers()] == [named.public.text]


def test_a_peer_of_the_settings_that_was_removed_stays_removed_until_it_is_added_again(open_peer: OpenPeer) -> None:
    address = f"http://127.0.0.1:1#{Identity.new().public.text}"
    app = open_peer("bench", peers=(address,))
    app.sync.remove(app.sync.view().peers[0].key)
    app.sync.start_over()  # as the next start does
    assert app.sync.view().peers == ()
    app.sync.add(address)
    app.sync.start_over()
    assert [peer.url for peer in app.sync.view().peers] == ["http://127.0.0.1:1"]


@pytest.mark.slow
def test_a_merge_keeps_what_the_peer_itself_was_taught(pair: tuple[AppServices, AppServices]) -> None:
    first, second = pair
    tasks = [wrong_task(first, 0), wrong_task(first, 1)]
    for app, task in zip(pair, tasks, strict=True):
        correct(app, task)
        app.learning.run_pending()
    for _ in range(4):
        for app in pair:
            app.sync.sync()
    for app in pair:
        for task in tasks:
            assert task.verdict(ask(app, task.question, learn=False).text), task.question


@pytest.mark.slow
def test_a_merge_is_undone_like_a_correction_and_not_done_again(pair: tuple[AppServices, AppServices]) -> None:
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


@pytest.mark.slow
def test_a_rolled_back_adapter_is_offered_no_more_from_that_moment(pair: tuple[AppServices, AppServices]) -> None:
    first, _ = pair
    correct(first, wrong_task(first))
    first.learning.run_pending()
    first.sync.sync()
    assert first.sync.latest() is not None
    first.learning.roll_back()
    assert first.sync.latest() is None


@pytest.mark.slow
def test_a_stranger_knocks_waits_and_is_taken_in_by_a_person(open_peer: OpenPeer) -> None:
    host, guest = open_peer("host"), open_peer("guest")
    with ExitStack() as stack:
        guest.sync.add(serve(host, stack))
        guest.sync.sync()
        assert "Waiting for this peer to approve" in guest.sync.view().peers[0].words
        [join_request] = host.sync.view().join_requests
        assert (join_request.name, join_request.fingerprint) == ("guest", guest.sync.view().fingerprint)
        host.sync.approve(join_request.key)
        guest.sync.sync_now()
        guest.sync.sync()
        assert guest.sync.view().peers[0].words == "Up to date."
        host.sync.remove(join_request.key)
        guest.sync.sync_now()
        guest.sync.sync()
        assert "Waiting" in guest.sync.view().peers[0].words, "removal is immediate"
        with pytest.raises(SpearError, match="contact this instance again"):
            host.sync.approve(Identity.new().public.text)


@pytest.mark.slow
def test_the_gate_refuses_a_harmful_merge_and_says_why(open_peer: OpenPeer, tmp_path: Path) -> None:
    app, author = open_peer("bench"), Identity.new()
    before = ask(app, "What can you do?", learn=False).text
    with ExitStack() as stack:
        address = serve(app, stack)
        admit(app, author)
        hostile(app, tmp_path / "u.safetensors", author, size=0.3)
        client = PeerClient(author, PeerAddress(address.partition("#")[0], app.sync.identity.public))
        client.push(tmp_path / "u.safetensors")
    app.sync.sync()
    [merge] = app.sync.view().merges
    assert merge.version is None and merge.words.startswith("Not kept: ") and merge.peers == ["mallory"]
    assert app.learning.lineage.version == 0 and ask(app, "What can you do?", learn=False).text == before


def test_hostile_updates_are_refused_with_a_reason_while_the_app_chats(open_peer: OpenPeer, tmp_path: Path) -> None:
    app, author, other = open_peer("bench"), Identity.new(), Identity.new()
    admit(app, author)
    path, refused, replies, done = tmp_path / "u.safetensors", [], [], threading.Event()

    def chat() -> None:
        while not done.is_set():
            replies.append(ask(app, "What is the capital of France?", learn=False).text)

    def push(change: Callable[[], object]) -> None:
        change()
        with pytest.raises(UpdateRefused) as caught:
            app.sync.receive(author.public, path)
        refused.append(caught.value.reason)

    chatting = threading.Thread(target=chat)
    chatting.start()
    try:
        push(lambda: torch.save({"a": torch.zeros(1)}, path))  # a pickle under another name
        push(lambda: (hostile(app, path, author), path.write_bytes(path.read_bytes()[:-100])))
        push(lambda: hostile(app, path, other))
        push(lambda: hostile(app, path, author, size=50.0))
        push(lambda: hostile(app, path, author, size=float("nan")))
        hostile(app, path, author)
        taken = path.read_bytes()
        app.sync.receive(author.public, path)
        push(lambda: path.write_bytes(taken))  # the same update again
        app.sync.remove(author.public.text)
        push(lambda: hostile(app, path, author, round=2))
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


def test_an_update_from_another_first_adapter_is_refused(pair: tuple[AppServices, AppServices], tmp_path: Path) -> None:
    first, second = pair
    path = tmp_path / "u.safetensors"
    state, author = first.engine.shared_models.initial, first.sync.identity
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


@pytest.mark.slow
def test_adapters_of_other_layers_meet_and_nothing_is_half_merged(open_peer: OpenPeer) -> None:
    """An app that adapts all layers, as older versions did, and one that adapts the upper third."""
    older, newer = open_peer("older"), open_peer("newer", spear={"lora_layers": "upper_third"})
    tasks = [wrong_task(older), wrong_task(newer, 1)]
    with ExitStack() as stack:
        addresses = [serve(app, stack) for app in (older, newer)]
        older.sync.add(addresses[1])
        newer.sync.add(addresses[0])
        served = []
        for app, task in zip((older, newer), tasks, strict=True):
            correct(app, task)
            app.learning.run_pending()
            served.append((app.learning.lineage.version, dict(app.learning.lineage.state or {})))
        for _ in range(2):
            older.sync.sync()
            newer.sync.sync()
        for app, task, (version, state) in zip((older, newer), tasks, served, strict=True):
            assert app.sync.view().merges == ()
            [peer] = app.sync.view().peers
            assert "refused: the update" in peer.words and "the setting lora_layers" in peer.words
            assert app.learning.lineage.version == version and app.learning.lineage.state is not None
            assert all(torch.equal(app.learning.lineage.state[name], state[name]) for name in state)
            assert task.verdict(ask(app, task.question, learn=False).text)


def offer_of(app: AppServices, path: Path, **changes: float) -> Offer:
    """A small update of a bench that was taught nothing."""
    manifest = hostile(app, path, app.sync.identity, **changes)
    return Offer(path, manifest.etag, manifest.round)


@pytest.fixture
def offering(
    pair: tuple[AppServices, AppServices], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[AppServices, AppServices]:
    """Two that have something to offer, merge nothing, and try again at once."""
    for app in pair:
        offer = offer_of(app, tmp_path / f"of {app.sync.settings.name}")
        monkeypatch.setattr(app.sync, "latest", lambda offer=offer: offer)
        app.learning.pause()
    monkeypatch.setattr("services.peers.sync.backoff_seconds", lambda failures, chance: 0.0)
    return pair


def test_a_push_refused_as_too_old_is_said_and_not_noted_as_sent(offering: tuple[AppServices, AppServices]) -> None:
    first, second = offering
    second.engine.store.note_update(first.sync.identity.public.text, "ab" * 16, 9, int(time.time()))
    first.sync.sync()
    [peer] = first.engine.store.peers()
    assert "refused: the update of round 1 is older than the one of round 9 that has been taken." in peer.words
    assert peer.pushed_etag == "" and peer.failures == 1


def test_an_update_that_a_peer_had_already_is_noted_and_not_said_to_be_sent(
    offering: tuple[AppServices, AppServices],
) -> None:
    first, second = offering
    offer = first.sync.latest()
    assert offer is not None
    second.sync.sync()  # pulls it
    first.sync.sync()
    [peer] = first.engine.store.peers()
    assert peer.words == "Up to date." and peer.pushed_etag == offer.etag


def test_an_update_that_cannot_be_stored_is_one_peers_failure(offering: tuple[AppServices, AppServices]) -> None:
    first, second = offering
    taken = second.engine.data_folder / "federation" / "taken" / second.engine.base
    in_the_way = taken / f"{first.sync.identity.public.fingerprint}.safetensors"
    (in_the_way / "folder").mkdir(parents=True)
    second.sync.sync()
    [peer] = second.engine.store.peers()
    assert peer.words == "Its update cannot be stored: Is a directory." and peer.failures == 1
    assert not list(second.sync.inbox.iterdir())


@pytest.mark.slow
def test_a_peer_that_refuses_a_push_is_pulled_from_and_not_sent_the_same_again(
    offering: tuple[AppServices, AppServices], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_peer_that_does_not_approve_us_is_knocked_at_after_a_push(offering: tuple[AppServices, AppServices]) -> None:
    first, second = offering
    second.sync.remove(first.sync.identity.public.text)
    first.sync.sync()
    assert "Waiting for this peer to approve" in first.sync.view().peers[0].words
    [join_request] = second.sync.view().join_requests
    second.sync.approve(join_request.key)
    first.sync.sync()
    assert first.sync.view().peers[0].words == "Sent round 1 and took a new update."


def while_another_is_asked(app: AppServices, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the app's next sync ask a peer that is down first, during which `do` happens."""
    store, down = app.engine.store, Identity.new().public.text
    present = store.peers()
    for peer in present:
        store.remove_peer(peer.key)
    for address in (f"http://127.0.0.1:9#{down}", *(f"{peer.url}#{peer.key}" for peer in present)):
        app.sync.add(address)
    exchange = app.sync._exchange

    def interrupted(peer: Peer) -> None:
        exchange(peer)
        if peer.key == down:
            do()

    monkeypatch.setattr(app.sync, "_exchange", interrupted)


def test_a_peer_that_is_removed_during_a_sync_is_not_sent_to(
    offering: tuple[AppServices, AppServices], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = offering
    key = second.sync.identity.public.text
    while_another_is_asked(first, lambda: first.sync.remove(key), monkeypatch)
    first.sync.sync()
    assert second.engine.store.peer(first.sync.identity.public.text).seen_round is None


def test_a_removal_cuts_off_what_is_being_sent(
    offering: tuple[AppServices, AppServices], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = offering
    key = second.sync.identity.public.text
    push = PeerClient.push

    def removed_first(client: PeerClient, path: Path) -> bool:
        first.sync.remove(key)
        return push(client, path)

    monkeypatch.setattr(PeerClient, "push", removed_first)
    first.sync.sync()
    assert second.engine.store.peer(first.sync.identity.public.text).seen_round is None


def test_what_was_pushed_while_another_was_asked_is_no_failure_of_its_peer(
    offering: tuple[AppServices, AppServices], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = offering
    while_another_is_asked(first, second.sync.sync, monkeypatch)
    first.sync.sync()
    peer = first.engine.store.peer(second.sync.identity.public.text)
    assert (peer.seen_round, peer.failures) == (1, 0), peer.words


def test_what_was_pushed_while_it_was_pulled_is_no_failure_of_its_peer(
    offering: tuple[AppServices, AppServices], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = offering
    pull = PeerClient.pull

    def pushed_meanwhile(client: PeerClient, inbox: Path, etag: str = "") -> Pulled | None:
        pulled = pull(client, inbox, etag)
        monkeypatch.setattr(PeerClient, "pull", pull)
        second.sync.sync()
        return pulled

    monkeypatch.setattr(PeerClient, "pull", pushed_meanwhile)
    first.sync.sync()
    [peer] = first.engine.store.peers()
    assert (peer.seen_round, peer.failures) == (1, 0), peer.words


def test_of_two_updates_that_arrive_at_once_the_newer_stays(
    open_peer: OpenPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, author = open_peer("bench"), Identity.new()
    admit(app, author)
    for number in (1, 2):
        hostile(app, tmp_path / str(number), author, round=number)
    checked, newer_kept = threading.Event(), threading.Event()

    def check(path: Path, *rest: Any) -> Checked:
        found = check_update(path, *rest)
        if found.seen.round == 1:
            checked.set()
            newer_kept.wait(1.0)
        return found

    monkeypatch.setattr("services.peers.sync.check_update", check)
    older = threading.Thread(target=app.sync.receive, args=(author.public, tmp_path / "1"))
    older.start()
    assert checked.wait(60)
    app.sync.receive(author.public, tmp_path / "2")
    newer_kept.set()
    older.join()
    assert app.engine.store.peer(author.public.text).seen_round == 2
    assert open_update(app.sync._file_of(author.public)).manifest.round == 2


def test_a_peer_that_cannot_be_reached_and_is_approved_again_is_sent_the_update_again(
    offering: tuple[AppServices, AppServices],
) -> None:
    first, second = offering
    key = first.sync.identity.public.text
    first.sync.sync()
    second.sync.remove(key)
    first.sync.sync()  # is refused, and asks to join
    second.sync.approve(key)
    assert second.engine.store.peer(key).url == "", "so only a push brings it"
    first.sync.sync()
    assert second.engine.store.peer(key).seen_round == 1


@pytest.mark.parametrize("changed", [{"lora_alpha": 64}, {"lora_layers": "upper_third"}])
def test_what_fits_no_more_since_the_settings_changed_is_left_out_of_merges(
    open_peer: OpenPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    app, before, after = open_peer("bench"), Identity.new(), Identity.new()
    admit(app, before)
    admit(app, after)
    hostile(app, tmp_path / "u", before)
    app.sync.receive(before.public, tmp_path / "u")
    app.close()
    app = open_peer("bench", spear=changed)
    merged: list[list[str]] = []

    def merge(author: str, theirs: list[Contribution], *rest: Any) -> MergeOutcome:
        merged.append([c.peer for c in theirs])
        return MergeOutcome("", None)

    monkeypatch.setattr(app.sync.merging, "merge", merge)
    app.sync.sync()
    assert merged == []
    hostile(app, tmp_path / "u", after)
    app.sync.receive(after.public, tmp_path / "u")
    app.sync.sync()
    assert merged == [[after.public.text]]


def test_a_peer_that_is_down_is_one_line_and_is_left_alone_for_a_while(
    open_peer: OpenPeer, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    app = open_peer("bench", peers=(f"http://127.0.0.1:{port}#{Identity.new().public.text}",))
    with caplog.at_level(logging.WARNING, "services.peers.sync"):
        app.sync.sync()
        app.sync.sync()  # not its turn yet
        app.sync.sync_now()
        app.sync.sync()
    assert len(caplog.records) == 1 and "cannot be reached" in caplog.records[0].message
    assert app.sync.view().peers[0].failures == 2


@pytest.mark.slow
def test_nothing_is_merged_while_learning_is_paused(pair: tuple[AppServices, AppServices]) -> None:
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
        app = open_peer("bench", peers=(f"http://127.0.0.1:{port}#{Identity.new().public.text}",))
        syncing = threading.Thread(target=app.sync.sync)
        syncing.start()
        silent.accept()
        app.sync.close()
        syncing.join(timeout=10)
        assert not syncing.is_alive()


@pytest.mark.slow
def test_peers_keys_and_numbers_outlive_a_restart(open_peer: OpenPeer) -> None:
    app = open_peer("bench")
    correct(app, wrong_task(app))
    app.learning.run_pending()
    app.sync.add(f"http://127.0.0.1:9#{Identity.new().public.text}")
    app.sync.sync()
    before, offer = app.sync.view(), app.sync.latest()
    app.close()
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
    app = open_peer("bench")
    with pytest.raises(AddressInvalid, match=says):
        app.sync.add(address)
    with pytest.raises(FederationError, match="own address"):
        app.sync.add(f"http://host:1#{app.sync.identity.public.text}")
    assert app.sync.view().peers == ()


@pytest.mark.parametrize("wrong", [{"sync_every": "soon"}, {"sync_every": "1s"}, {"scale": 0.0}, {"address": "x"}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ConfigError, FederationError)):
        FederationSettings(**wrong)  # type: ignore[arg-type]


def test_an_interval_is_read_with_its_unit() -> None:
    assert [FederationSettings(sync_every=t).sync_seconds for t in ("30s", "10m", "2h", "45")] == [30, 600, 7200, 45]
