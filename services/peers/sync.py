"""The sync service: publishes the serving adapter, exchanges updates on a schedule and merges them. The app's `PeerHost`."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute

from federation.aggregation_plan import Contribution
from federation.checks import Expected, Seen, check_fit, check_update
from federation.client import PeerClient, Waits
from federation.errors import (
    FederationError,
    PeerRefused,
    PeerUnavailable,
    UpdateRefused,
    UpdateReplayed,
)
from federation.identity import KEY_FILE, PublicKey, open_identity
from federation.join_requests import JoinRequests
from federation.peer_host import Offer, clear_partial
from federation.peers import PeerAddress, backoff_seconds, parse_address
from federation.request_signing import UsedRequest
from federation.routes import routes
from federation.update import Update, open_update
from feedback_store import Peer, StoreError, UnknownRecord
from services.engine import Engine
from services.learning.between_rounds import RoundUnderWay
from services.learning.peer_questions import to_publish
from services.learning.rounds import LearningService
from services.peers.merging import MergeOutcome, Merging
from services.peers.published_update import FOLDER, PUBLISHED_FOLDER, PublishedUpdate
from services.peers.settings import FederationSettings
from services.peers.views import CircleView, JoinRequestView, MergeView, PeerView
from spear_core.errors import SpearError

log = logging.getLogger(__name__)
MERGES, ATTEMPTED = "peer_merges", "peer_merge_attempted"
REMOVED = "peers_removed"  # keys of the settings' peers that were removed on the page
MERGES_KEPT = 20
MOST_ATTEMPTS = 3  # at a merge that ends in a kill each time, say for want of memory
NOT_APPROVED, UNFIT = 403, 422
WAITS = Waits(connect_seconds=5.0, read_seconds=20.0, total_seconds=300.0)


class SyncService:
    """Implements `federation.peer_host.PeerHost`. `sync` is the job; everything else is quick and may be called from any thread."""

    def __init__(self, engine: Engine, learning: LearningService, settings: FederationSettings) -> None:
        self._engine = engine
        self._store = engine.store
        self._learning = learning
        self.settings = settings
        self.inbox = engine.data_folder / FOLDER / "inbox"
        self._client: PeerClient | None = None
        self._taking = threading.Lock()  # a peer's push and a pull from it would overtake each other
        self._closing, self._asked = threading.Event(), threading.Event()
        self._next_try: dict[str, float] = {}  # key -> when, by the monotonic clock
        self._unfit: dict[str, tuple[str, str]] = {}  # key -> etag of an update that this peer refused, and its words
        self.on_sync: Callable[[], object] = lambda: None  # set by jobs: sync now
        self.start_over()
        clear_partial(self.inbox)

    def start_over(self) -> None:
        """With what the data folder holds. Where everything was erased that is a new identity, and the settings' peers alone."""
        self.identity = open_identity(self._engine.data_folder / FOLDER / KEY_FILE)
        self.join_requests = JoinRequests()
        self._next_try.clear()
        self._unfit.clear()
        self._begin()
        removed = self._store.setting(REMOVED, [])
        for text in self.settings.peers:
            address = parse_address(text)
            if address.key.text in removed:
                log.info("%s stays removed; add it on the page to approve it again", address.url)
            else:
                self._store.approve_peer(address.key.text, "", address.url)
        self._remember_peers()
        self._publish()

    def begin(self) -> None:
        """With the base model that the engine has now."""
        if self._begun_with != self._engine.base:
            self._begin()
            self._publish()

    def _begin(self) -> None:
        engine, folder = self._engine, self._engine.data_folder / FOLDER
        self._begun_with = engine.base
        self.merging = Merging(engine, self._learning)
        self._taken = folder / "taken" / engine.base
        self._make_folders()
        self._published_update = PublishedUpdate(
            engine.store, self.identity, folder / PUBLISHED_FOLDER / engine.base, engine.base, engine.config.lora_alpha
        )

    # -- PeerHost: asked by the server on every request --------------------------------------------------------

    @property
    def base(self) -> str:
        return self._engine.base

    def approved(self, key: PublicKey) -> bool:
        return key in self._keys

    def latest(self) -> Offer | None:
        return self._published_update.latest(self._engine.shared_models.serving.version)

    def used_requests(self) -> Iterable[UsedRequest]:
        return [UsedRequest(PublicKey.parse(key), nonce, until) for key, nonce, until in self._store.used_requests()]

    def keep_used_request(self, used: UsedRequest) -> None:
        """Raises FederationError where the disk refuses."""
        try:
            self._store.keep_used_request(used.key.text, used.nonce, used.until, now=time.time())
        except StoreError as e:
            raise FederationError(f"this peer cannot store which requests were made: {e}") from e

    def receive(self, author: PublicKey, path: Path) -> None:
        """Check an update and keep it for the next merge. Raises UpdateRefused with the reason."""
        with self._taking:
            peer = self._present(author.text)
            if peer is None:
                raise UpdateRefused("this peer is not approved any more")
            seen = None if peer.seen_round is None else Seen(peer.seen_round, peer.seen_created_at or 0)
            checked = check_update(path, author, self._expected(), seen, time.time())
            self._check_first(checked.update)
            path.replace(self._file_of(author))
            etag, taken = checked.update.manifest.etag, checked.seen
            if not self._store.note_update(author.text, etag, taken.round, taken.created_at_utc):
                self._file_of(author).unlink(missing_ok=True)
                raise UpdateRefused("this peer is not approved any more")

    def routes(self) -> Sequence[BaseRoute]:
        """What the server that serves the page also answers."""
        return routes(self)

    # -- what the screen shows and does ------------------------------------------------------------------------

    def view(self) -> CircleView:
        key = self.identity.public
        return CircleView(
            fingerprint=key.fingerprint,
            key=key.text,
            url=self.settings.address,
            sync_every=self.settings.sync_every,
            peers=tuple(self._peer_view(p) for p in self._store.peers()),
            join_requests=tuple(
                JoinRequestView(k.key.text, k.key.fingerprint, k.name, k.address.partition("#")[0], k.remote)
                for k in self.join_requests.waiting()
            ),
            merges=tuple(MergeView(**m) for m in self._store.setting(MERGES, [])),
            shares_questions=self.settings.share_questions,
        )

    def add(self, address: str) -> None:
        """Approve a peer by its address. Raises AddressInvalid."""
        found = parse_address(address)
        if found.key == self.identity.public:
            raise FederationError("That is this instance's own address; give it to your peer, and enter theirs here.")
        self._approve(found.key, "", found.url)

    def approve(self, key: str) -> None:
        """Approve a join request. Raises SpearError where the peer does not wait any more."""
        join_request = self.join_requests.remove(PublicKey.parse(key))
        if join_request is None:
            raise SpearError("This peer no longer asks to join; ask its owner to contact this instance again.")
        self._approve(join_request.key, join_request.name, join_request.address.partition("#")[0])

    def decline(self, key: str) -> None:
        self.join_requests.remove(PublicKey.parse(key))

    def remove(self, key: str) -> None:
        """From this moment on the peer gets nothing and nothing of it is taken. What was merged stays until undone."""
        with self._store.transaction():
            self._store.remove_peer(key)
            if any(parse_address(text).key.text == key for text in self.settings.peers):
                self._store.set_setting(REMOVED, sorted({key, *self._store.setting(REMOVED, [])}))
        self._remember_peers()
        client = self._client
        if client and client.address.key.text == key:
            client.close()
        self._file_of(PublicKey.parse(key)).unlink(missing_ok=True)

    def sync_now(self) -> None:
        """Do not wait for the schedule, nor for a peer that did not answer lately or refused what it was sent."""
        self._next_try.clear()
        self._unfit.clear()
        self._asked.set()  # a sync under way begins once more
        self.on_sync()

    # -- the job -----------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Publish, exchange with every peer whose turn it is, merge what is new. Never raises for a peer's fault."""
        self._asked.set()
        while self._asked.is_set() and not self._closing.is_set():
            self._asked.clear()
            self._make_folders()  # everything may have been erased meanwhile,
            self._remember_peers()  # and a restored backup may know others
            self._publish()
            for listed in self._store.peers():
                if time.monotonic() >= self._next_try.get(listed.key, 0.0) and not self._closing.is_set():
                    peer = self._present(listed.key)  # changed or removed, perhaps, while others were asked
                    if peer and peer.url:
                        self._exchange(peer)
            if not self._learning.paused and not self._closing.is_set():
                self._merge()

    def close(self) -> None:
        """Give up what is under way between peers."""
        self._closing.set()
        if client := self._client:
            client.close()

    def _publish(self) -> None:
        lineage, version = self._learning.lineage, self._learning.lineage.version
        questions = to_publish(self._store, self.base, version) if self.settings.share_questions else ()
        self._published_update.publish(version, lineage.read, self.merging.first.digest, questions)

    # -- exchanging --------------------------------------------------------------------------------------------

    def _exchange(self, peer: Peer) -> None:
        address = PeerAddress(peer.url, PublicKey.parse(peer.key))
        client = self._client = PeerClient(self.identity, address, WAITS)
        try:
            if not self.approved(address.key):  # `remove` saw no client to close
                return
            words = self._talk(client, peer)
        except UpdateRefused as e:
            self._note_failure(peer, f"Its update was refused: {e.reason}.", None)
        except PeerRefused as e:
            if e.status == NOT_APPROVED:
                self._store.note_pushed(peer.key, "")  # with the approval it dropped what it had
            self._note_failure(peer, self._send_join_request(client) if e.status == NOT_APPROVED else f"{e}.", None)
        except PeerUnavailable as e:
            if not self._closing.is_set() and self.approved(address.key):
                self._note_failure(peer, f"{e}.", e.retry_after_seconds)
        except FederationError as e:
            self._note_failure(peer, f"{e}.", None)
        except OSError as e:  # the other peers are asked all the same
            self._note_failure(peer, f"Its update cannot be stored: {e.strerror or e}.", None)
        else:
            if peer.failures:
                log.info("peer %s answers again", address.url)
            self._next_try.pop(peer.key, None)
            self._store.note_contact(peer.key, words, failed=False)
        finally:
            self._client = None

    def _talk(self, client: PeerClient, peer: Peer) -> str:
        """Push what it lacks, pull what is new; what happened, in words. A refused push is raised after the pull."""
        done, refusal = [], None
        offer = self.latest()
        if offer and offer.etag != peer.pushed_etag:
            try:
                if self._push(client, peer, offer):
                    done.append(f"sent round {offer.round}")
            except PeerRefused as e:
                refusal = e
        have = peer.etag if self._file_of(client.address.key).is_file() else ""
        if pulled := client.pull(self.inbox, have):
            try:
                self.receive(client.address.key, pulled.path)
                done.append("took a new update")
            except UpdateReplayed:
                log.debug("peer %s pushed the update while it was pulled", peer.url)
            finally:
                pulled.path.unlink(missing_ok=True)
        if refusal is not None:
            raise refusal
        said = " and ".join(done)
        return f"{said[:1].upper()}{said[1:]}." if said else "Up to date."

    def _push(self, client: PeerClient, peer: Peer, offer: Offer) -> bool:
        """False if the peer had it already. Raises PeerRefused; what the peer found unfit is not sent a second time."""
        etag, words = self._unfit.get(peer.key, ("", ""))
        if offer.etag == etag:
            raise PeerRefused(words, UNFIT)
        try:
            is_new = client.push(offer.path)
        except PeerRefused as e:
            if e.status == UNFIT:
                self._unfit[peer.key] = offer.etag, str(e)
            raise
        self._store.note_pushed(peer.key, offer.etag)
        return is_new

    def _send_join_request(self, client: PeerClient) -> str:
        try:
            client.join_request(self.settings.name, self.settings.address)
        except FederationError as e:
            return f"{e}."
        return "Waiting for this peer to approve this instance's key."

    def _note_failure(self, peer: Peer, words: str, retry_after_seconds: float | None) -> None:
        wait = backoff_seconds(peer.failures + 1, random.random())
        self._next_try[peer.key] = time.monotonic() + max(wait, retry_after_seconds or 0.0)
        level = logging.WARNING if words != peer.words else logging.DEBUG  # said once, not at every try
        log.log(level, "peer %s: %s", peer.url, words)
        self._store.note_contact(peer.key, words, failed=True)

    # -- merging -----------------------------------------------------------------------------------------------

    def _merge(self) -> None:
        """Merge what approved peers sent, once for each new state of things, whatever came of the last one."""
        peers = {p.key: p for p in self._store.peers() if p.etag}  # before the files: a newer one is merged once more
        updates = self._fitting_updates(peers)
        theirs = {key: peers[key] for key in updates}
        state = {key: peer.etag for key, peer in theirs.items()}
        last: dict[str, Any] = self._store.setting(ATTEMPTED, {})
        attempts = last.get("attempts", 0) if last.get("state") == state else 0
        if not state or attempts >= MOST_ATTEMPTS:
            return
        self._store.set_setting(ATTEMPTED, {"state": state, "attempts": attempts + 1})
        try:
            contributions = [Contribution.of(updates[key]) for key in theirs]
            called = {key: peer.name for key, peer in theirs.items()}
            outcome = self.merging.merge(self.identity.public.text, contributions, self.settings.merge, called)
        except RoundUnderWay:
            self._store.set_setting(ATTEMPTED, {"state": state, "attempts": attempts})
            return
        except (SpearError, OSError, RuntimeError, MemoryError) as e:
            log.warning("the merge failed: %s", e)
            outcome = MergeOutcome(f"The merge failed, and nothing was changed: {e}.", None)
        self._store.set_setting(ATTEMPTED, {"state": state, "attempts": MOST_ATTEMPTS})
        names = [_name_of(peer) for peer in theirs.values()]
        record = {
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "words": outcome.words,
            "version": outcome.version,
            "peers": names,
        }
        self._store.set_setting(MERGES, [record, *self._store.setting(MERGES, [])][:MERGES_KEPT])
        if outcome.version is not None:
            self._publish()

    def _fitting_updates(self, keys: Iterable[str]) -> dict[str, Update]:
        """What was taken, by its author's key, but for what does not fit any more since this instance's settings changed."""
        expected, found = self._expected(), {}
        for key in keys:
            file = self._file_of(PublicKey.parse(key))
            if not file.is_file():
                continue
            try:
                update = open_update(file)
                check_fit(update, expected)
                self._check_first(update)
            except UpdateRefused as e:
                log.info("what peer %s sent is left out: %s", PublicKey.parse(key).fingerprint, e.reason)
            else:
                found[key] = update
        return found

    def _check_first(self, update: Update) -> None:
        if update.manifest.parent != self.merging.first.digest:
            raise UpdateRefused(
                "the update began from another first adapter; run the same version of the app and of torch"
            )

    # -- small things ------------------------------------------------------------------------------------------

    def _present(self, key: str) -> Peer | None:
        try:
            return self._store.peer(key)
        except UnknownRecord:
            return None

    def _expected(self) -> Expected:
        state = self._learning.lineage.state or self.merging.first.tensors
        return Expected.of(state, self.base, self._engine.config.lora_alpha)

    def _file_of(self, key: PublicKey) -> Path:
        return self._taken / f"{key.fingerprint}.safetensors"

    def _approve(self, key: PublicKey, name: str, url: str) -> None:
        with self._store.transaction():
            self._store.approve_peer(key.text, name, url)
            self._store.set_setting(REMOVED, [k for k in self._store.setting(REMOVED, []) if k != key.text])
        self._remember_peers()
        self.sync_now()

    def _make_folders(self) -> None:
        for needed in (self.inbox, self._taken):
            needed.mkdir(parents=True, exist_ok=True)

    def _remember_peers(self) -> None:
        self._keys = frozenset(PublicKey.parse(p.key) for p in self._store.peers())

    def _peer_view(self, peer: Peer) -> PeerView:
        key = PublicKey.parse(peer.key)
        unprotected = bool(peer.url) and PeerAddress(peer.url, key).unprotected
        return PeerView(
            peer.key,
            key.fingerprint,
            _name_of(peer),
            peer.url,
            peer.words,
            peer.contact_at_utc,
            peer.failures,
            peer.seen_round,
            unprotected,
        )


def _name_of(peer: Peer) -> str:
    return peer.name or peer.url or PublicKey.parse(peer.key).fingerprint
