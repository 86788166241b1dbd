"""Search in what was said: the case of letters does not matter, in any script."""

from __future__ import annotations

import pytest

from feedback_store import Store
from feedback_store.migrations import MIGRATIONS


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
    assert store.conversations_saying(sought) == {by_title.id, by_message.id}


def test_a_changed_text_or_title_is_found_and_the_old_one_is_not(store: Store) -> None:
    conversation = store.create_conversation("Äpfel")
    message = store.add_message(conversation.id, "user", "Öl")
    store.rename_conversation(conversation.id, "Birnen")
    store.update_message(message.id, text="Wasser")
    assert store.conversations_saying("äpfel") == store.conversations_saying("öl") == set()
    store.update_message(message.id, text="Ärger")
    assert store.conversations_saying("ÄRGER") == {conversation.id}


def test_what_was_stored_before_is_folded_by_the_migration(store: Store) -> None:
    conversation = store.create_conversation("Äpfel")
    store.add_message(conversation.id, "user", "Öl")
    store._db.executescript("ALTER TABLE conversations DROP COLUMN folded; ALTER TABLE messages DROP COLUMN folded;")
    name = next(m.name for m in MIGRATIONS.applied(store._db) if m.name.endswith("_search"))
    store._db.execute("DELETE FROM _sqlite_migrations WHERE name = ?", [name])
    store._connection._migrate()
    assert store.conversations_saying("äpfel") == store.conversations_saying("öl") == {conversation.id}
