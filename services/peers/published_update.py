"""The update that this instance offers its peers: the serving adapter, signed and numbered. No network."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from federation.identity import Identity
from federation.peer_host import Offer
from federation.questions import digest_of_text, questions_text
from federation.update import write_update
from feedback_store import Store
from spear_core.models.shared_base import AdapterState

FOLDER, PUBLISHED_FOLDER = "federation", "outbox"  # in the data folder, in that
PUBLISHED, ROUND = "peer_published", "peer_round"
SIGN_ANEW_SECONDS = 10 * 86_400  # peers take nothing older than 30 days,
CLOCK_SKEW_SECONDS = 600  # nor from the future, as an update is that was signed before the clock was set back
FILES_KEPT = 2  # the last but one may still be in transfer


def withdraw(data_folder: Path, bases: Collection[str]) -> None:
    """Delete the published updates of these base models, so that nothing forgotten is left; the next sync publishes again."""
    for base in bases:
        for path in (data_folder / FOLDER / PUBLISHED_FOLDER / base).glob("*"):
            path.unlink(missing_ok=True)


class PublishedUpdate:
    """`publish` writes files; `latest` answers from memory, on every request."""

    def __init__(self, store: Store, identity: Identity, folder: Path, base: str, alpha: int) -> None:
        self._store = store
        self._identity = identity
        self._folder = folder
        self._base = base
        self._alpha = alpha
        self._offer: tuple[int, Offer] | None = None  # with the version that it is of

    def latest(self, version: int) -> Offer | None:
        """The offer of this version; None where it is of another, such as one that was undone a moment ago."""
        offer = self._offer
        return offer[1] if offer and offer[0] == version else None

    def publish(
        self, version: int, read: Callable[[int], AdapterState | None], parent: str, questions: Sequence[str] = ()
    ) -> None:
        """Offer a version, or nothing for version 0. An update is written where the last one says anything else, or is too old.

        `questions`: that the version was taught, to be sent with it, as `federation.questions.shareable` leaves them.

        Raises AdapterInvalid where the version's files are damaged.
        """
        wanted = {
            "base": self._base,
            "version": version,
            "key": self._identity.public.text,
            "alpha": self._alpha,
            "parent": parent,
            "questions": digest_of_text(questions_text(questions)) if questions else "",
        }
        last: dict[str, Any] = {"questions": "", **self._store.setting(PUBLISHED, {})}  # of an earlier version: none
        path = self._folder / str(last.get("file", ""))
        is_fresh = -CLOCK_SKEW_SECONDS < time.time() - last.get("created_at", 0) < SIGN_ANEW_SECONDS
        if wanted.items() <= last.items() and path.is_file() and is_fresh:
            self._offer = version, Offer(path, last["etag"], last["round"])
            return
        state = read(version)
        self._offer = None if state is None else (version, self._write(wanted, state, questions))

    def _write(self, wanted: dict[str, Any], state: AdapterState, questions: Sequence[str]) -> Offer:
        number, created = int(self._store.setting(ROUND, 0)) + 1, int(time.time())
        self._store.set_setting(ROUND, number)  # first: a number is never used twice, even after a kill
        self._folder.mkdir(parents=True, exist_ok=True)
        for cut_off in self._folder.glob(".*.tmp"):  # by a kill
            cut_off.unlink(missing_ok=True)
        path = self._folder / f"{number:08d}.safetensors"
        manifest = write_update(
            path,
            state,
            self._identity,
            base=self._base,
            alpha=self._alpha,
            round=number,
            wins=self._store.count_learned(self._base),
            parent=wanted["parent"],
            created_at_utc=created,
            questions=questions,
        )
        words = {"round": number, "file": path.name, "created_at": created, "etag": manifest.etag}
        self._store.set_setting(PUBLISHED, {**wanted, **words})
        for old in sorted(self._folder.glob("*.safetensors"))[:-FILES_KEPT]:
            old.unlink(missing_ok=True)
        return Offer(path, manifest.etag, number)


def carry_on_numbering(store: Store, backup: Store) -> None:
    """Before `backup` takes the place of `store`: go on from the larger number, and publish again.

    Peers refuse a number below one that they have taken.
    """
    backup.set_setting(ROUND, max(store.setting(ROUND, 0), backup.setting(ROUND, 0)))
    backup.set_setting(PUBLISHED, {})
