"""What is offered to peers is signed by the present key and says what is so now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.identity import Identity
from federation.manifest import Manifest
from federation.update import open_update
from feedback_store import Store
from services.peers.published_update import PublishedUpdate
from tests.federation.circle import ALPHA, BASE, adapter

OLD, NEW = Identity.new(), Identity.new()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "spear.sqlite3") as store:
        yield store


def publish(
    store: Store,
    identity: Identity = OLD,
    alpha: int = ALPHA,
    parent: str = "",
    questions: tuple[str, ...] = (),
) -> Manifest:
    """What is offered by an app that starts with these."""
    published_update = PublishedUpdate(store, identity, store.path.parent / "outbox", BASE, alpha)
    published_update.publish(1, lambda _: adapter(1), parent, questions)
    offer = published_update.latest(1)
    assert offer is not None
    return open_update(offer.path).manifest


def test_what_says_the_same_is_not_signed_again(store: Store) -> None:
    assert publish(store) == publish(store)


@pytest.mark.parametrize("identity, alpha, parent", [(NEW, ALPHA, ""), (OLD, 2 * ALPHA, ""), (OLD, ALPHA, "ab" * 32)])
def test_another_key_alpha_or_parent_is_signed_anew(store: Store, identity: Identity, alpha: int, parent: str) -> None:
    publish(store)
    said = publish(store, identity, alpha, parent)
    assert (said.key, said.lora.alpha, said.parent) == (identity.public, alpha, parent)
    assert said.round == 2


def test_questions_are_signed_with_the_adapter_and_are_sent_no_more_once_they_are_not_shared(store: Store) -> None:
    plain = publish(store)
    sent = publish(store, questions=("Where is my key?",))
    assert (plain.protocol, sent.protocol, sent.round) == (1, 2, 2)
    assert publish(store, questions=("Where is my key?",)) == sent
    assert publish(store, questions=("Who am I?",)).round == 3
    assert publish(store).protocol == 1
    said = str(store.setting("peer_published"))
    assert "key" in said and "Where" not in said, "the store names them by their digest only"
