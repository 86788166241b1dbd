"""Search in what was said: the case of letters does not matter, in any script."""

from __future__ import annotations

import pytest

from feedback_store import Store
from feedback_store.migrations import MIGRATIONS

BIRDS = ("owl", "heron", "owl", "heron", "owl")


def found(store: Store, text: str) -> set[str]:
    return {conversation.id for conversation in store.conversations(search=text)}


@pytest.mark.parametrize(
    ("said", "sought"),
    [
        ("Äpfel und Birnen", "äpfel"),
        ("ich liebe Москву", "МОСКВУ"),
        ("die STRASSE", "straße"),
        ("in der Straße", "strasse"),
    ]
    + [("Owls", "oWL"), ("100 % sure_", "% sure_"), ("Cafe\u0301", "CAFÉ")],
)
def test_words_are_found_whatever_their_case(store: Store, said: str, sought: str) -> None:
    by_title = store.create_conversation(said)
    by_message = store.create_conversation("a title")
    store.add_message(by_message.id, "user", said)
    store.create_conversation("something else")
    assert found(store, sought) == {by_title.id, by_message.id}


def test_a_changed_text_or_title_is_found_and_the_old_one_is_not(store: Store) -> None:
    conversation = store.create_conversation("Äpfel")
    message = store.add_message(conversation.id, "user", "Öl")
    store.rename_conversation(conversation.id, "Birnen")
    store.update_message(message.id, text="Wasser")
    assert found(store, "äpfel") == found(store, "öl") == set()
    store.update_message(message.id, text="Ärger")
    assert found(store, "ÄRGER") == {conversation.id}


def test_an_old_conversation_is_found_below_any_number_of_newer_ones(store: Store) -> None:
    with store.transaction():
        old = store.create_conversation("zanzibar")
        for i in range(1000):
            store.create_conversation(f"number {i}")
    assert found(store, "zanzibar") == {old.id}


def test_what_is_found_is_read_page_by_page(store: Store) -> None:
    oldest, _, middle, _, newest = (store.create_conversation(f"{bird} {i}") for i, bird in enumerate(BIRDS))
    assert store.conversations(2, search="owl") == [newest, middle]
    assert store.conversations(2, search="owl", after=middle.id) == [oldest]


def test_what_was_stored_before_is_folded_by_the_migration(store: Store) -> None:
    conversation = store.create_conversation("Äpfel")
    store.add_message(conversation.id, "user", "Öl")
    store._db.executescript("ALTER TABLE conversations DROP COLUMN folded; ALTER TABLE messages DROP COLUMN folded;")
    name = next(m.name for m in MIGRATIONS.applied(store._db) if m.name.endswith("_search"))
    store._db.execute("DELETE FROM _sqlite_migrations WHERE name = ?", [name])
    store._connection._migrate()
    assert found(store, "äpfel") == found(store, "öl") == {conversation.id}
