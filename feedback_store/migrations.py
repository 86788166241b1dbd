"""The schema as a list of migrations. A change is a new function at the end; none is ever edited or renamed."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

from feedback_store.folding import folded
from feedback_store.sampling import content_key

MIGRATIONS = Migrations("feedback_store")


@MIGRATIONS()
def m001_conversations(db: Database) -> None:
    """Conversations, messages, votes, hints and the event log."""
    # `seq` keeps the order of writing, which a clock does not; ids are what the outside sees.
    db.executescript("""
        CREATE TABLE conversations (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            title TEXT NOT NULL,
            learn INTEGER NOT NULL,
            created_at_utc TEXT NOT NULL
        );
        CREATE TABLE messages (
            id TEXT PRIMARY KEY NOT NULL,
            conversation_id TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            role TEXT NOT NULL,
            kind TEXT NOT NULL,
            text TEXT NOT NULL,
            parent_id TEXT REFERENCES messages(id),
            revises_id TEXT REFERENCES messages(id),
            hint TEXT,
            verdict TEXT,
            adapter_version INTEGER NOT NULL,
            complete INTEGER NOT NULL,
            created_at_utc TEXT NOT NULL,
            UNIQUE (conversation_id, position)
        );
        CREATE INDEX messages_parent ON messages(parent_id);
        CREATE INDEX messages_revises ON messages(revises_id);
        CREATE TABLE votes (
            message_id TEXT PRIMARY KEY NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
            value INTEGER NOT NULL CHECK (value IN (-1, 1)),
            voted_at_utc TEXT NOT NULL
        );
        CREATE TABLE hints (
            id INTEGER PRIMARY KEY,
            message_id TEXT NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
            text TEXT NOT NULL,
            created_at_utc TEXT NOT NULL
        );
        CREATE INDEX hints_message ON hints(message_id);
        CREATE TABLE events (
            id INTEGER PRIMARY KEY,
            kind TEXT NOT NULL,
            message_id TEXT REFERENCES messages(id) ON DELETE SET NULL,
            data TEXT NOT NULL,
            created_at_utc TEXT NOT NULL
        );
        CREATE INDEX events_message ON events(message_id);
    """)


@MIGRATIONS()
def m002_learning(db: Database) -> None:
    """Rounds, traces, adapters, the active adapter of each base model, and settings."""
    db.executescript("""
        CREATE TABLE rounds (
            id INTEGER PRIMARY KEY,
            base TEXT NOT NULL,
            status TEXT NOT NULL,
            started_at_utc TEXT NOT NULL,
            finished_at_utc TEXT,
            adapter_version INTEGER,
            parent_version INTEGER NOT NULL,
            wins INTEGER NOT NULL,
            loses INTEGER NOT NULL,
            replayed INTEGER NOT NULL DEFAULT 0,
            figures TEXT NOT NULL DEFAULT '{}',
            verdict TEXT NOT NULL DEFAULT '',
            proof TEXT NOT NULL DEFAULT 'null'
        );
        CREATE INDEX rounds_base_status ON rounds(base, status);
        CREATE TABLE traces (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            side TEXT NOT NULL,
            conversation_id TEXT REFERENCES conversations(id) ON DELETE SET NULL,
            message_id TEXT REFERENCES messages(id) ON DELETE SET NULL,
            subject_id TEXT REFERENCES messages(id) ON DELETE SET NULL,
            prompt TEXT NOT NULL,
            completion TEXT NOT NULL,
            confidence REAL NOT NULL,
            source TEXT NOT NULL,
            status TEXT NOT NULL,
            round_id INTEGER REFERENCES rounds(id),
            base TEXT NOT NULL,
            created_at_utc TEXT NOT NULL
        );
        CREATE INDEX traces_base_status ON traces(base, status);
        CREATE INDEX traces_round ON traces(round_id);
        CREATE INDEX traces_conversation ON traces(conversation_id);
        CREATE INDEX traces_message ON traces(message_id);
        CREATE INDEX traces_subject ON traces(subject_id);
        CREATE TABLE adapters (
            base TEXT NOT NULL,
            version INTEGER NOT NULL CHECK (version > 0),
            parent_version INTEGER NOT NULL,
            folder TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            round_id INTEGER REFERENCES rounds(id),
            status TEXT NOT NULL,
            pinned INTEGER NOT NULL DEFAULT 0,
            figures TEXT NOT NULL,
            created_at_utc TEXT NOT NULL,
            PRIMARY KEY (base, version)
        );
        CREATE TABLE active_adapters (
            base TEXT PRIMARY KEY NOT NULL,
            version INTEGER NOT NULL,
            FOREIGN KEY (base, version) REFERENCES adapters(base, version)
        );
        CREATE TABLE settings (
            key TEXT PRIMARY KEY NOT NULL,
            value TEXT NOT NULL
        );
    """)


@MIGRATIONS()
def m003_long_histories(db: Database) -> None:
    """Keys, flags and indexes with which a million votes and traces are asked as fast as ten.

    - `prompt_key`, `question_key`: sampling.content_key of a trace's prompt, and of the question that a reply answers;
    - `may_train`: the trace's conversation exists and the person lets it teach;
    - `objected`: somebody voted the reply down, or a revision or edit is meant to replace it.
    """
    db.executescript("""
        ALTER TABLE traces ADD COLUMN prompt_key INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE traces ADD COLUMN may_train INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE messages ADD COLUMN question_key INTEGER;
        ALTER TABLE messages ADD COLUMN objected INTEGER NOT NULL DEFAULT 0;
    """)
    db.conn.create_function("content_key", 1, content_key, deterministic=True)
    usual = db.execute("PRAGMA cache_size").fetchone()[0]
    db.execute("PRAGMA cache_size = -262144")  # 256 MB for this once: keys and flags are looked up in no order
    db.executescript("""
        UPDATE traces SET prompt_key = content_key(prompt),
            may_train = coalesce((SELECT learn FROM conversations c WHERE c.id = conversation_id), 0);
        UPDATE messages SET
            question_key = (
                SELECT content_key(q.text) FROM messages q WHERE q.id = messages.parent_id AND q.role = 'user'
            ),
            objected = EXISTS (SELECT 1 FROM votes v WHERE v.message_id = messages.id AND v.value = -1)
                OR EXISTS (SELECT 1 FROM messages r WHERE r.revises_id = messages.id);

        -- Votes are cast and taken back, never updated
        CREATE TRIGGER vote_cast AFTER INSERT ON votes WHEN NEW.value = -1 BEGIN
            UPDATE messages SET objected = 1 WHERE id = NEW.message_id;
        END;
        CREATE TRIGGER vote_taken_back AFTER DELETE ON votes WHEN OLD.value = -1 BEGIN
            UPDATE messages SET objected = EXISTS (SELECT 1 FROM messages r WHERE r.revises_id = OLD.message_id)
            WHERE id = OLD.message_id;
        END;
        CREATE TRIGGER reply_revised AFTER INSERT ON messages WHEN NEW.revises_id IS NOT NULL BEGIN
            UPDATE messages SET objected = 1 WHERE id = NEW.revises_id;
        END;
        CREATE TRIGGER learn_changed AFTER UPDATE OF learn ON conversations BEGIN
            UPDATE traces SET may_train = NEW.learn WHERE conversation_id = NEW.id;
        END;
        CREATE TRIGGER conversation_deleted BEFORE DELETE ON conversations BEGIN
            UPDATE traces SET may_train = 0 WHERE conversation_id = OLD.id;
        END;

        CREATE INDEX traces_base ON traces(base) WHERE subject_id IS NOT NULL;
        CREATE INDEX traces_waiting ON traces(base, side) WHERE status = 'pending' AND may_train = 1;
        CREATE INDEX traces_wins ON traces(base, prompt_key) WHERE side = 'win';
        DROP INDEX traces_round;
        CREATE INDEX traces_round ON traces(round_id, status);
        CREATE INDEX messages_bare ON messages(question_key)
            WHERE position = 1 AND role = 'assistant' AND kind = 'message' AND adapter_version = 0 AND complete = 1;
        CREATE INDEX messages_objected ON messages(question_key) WHERE objected = 1;
        CREATE INDEX events_kind ON events(kind);
        CREATE INDEX rounds_base ON rounds(base);
    """)
    db.execute(f"PRAGMA cache_size = {usual}")


@MIGRATIONS()
def m004_peers(db: Database) -> None:
    """The peers of the circle: who is approved, what was last taken from each, and how the last contact went."""
    db.executescript("""
        CREATE TABLE peers (
            key TEXT PRIMARY KEY NOT NULL,
            name TEXT NOT NULL,
            url TEXT NOT NULL,
            approved_at_utc TEXT NOT NULL,
            seen_round INTEGER,
            seen_created_at INTEGER,
            etag TEXT NOT NULL DEFAULT '',
            pushed_etag TEXT NOT NULL DEFAULT '',
            failures INTEGER NOT NULL DEFAULT 0,
            contact_at_utc TEXT,
            words TEXT NOT NULL DEFAULT ''
        );
    """)


@MIGRATIONS()
def m005_users(db: Database) -> None:
    """Whose a conversation is: the name of a user, empty where the instance has no logins."""
    db.executescript("""
        ALTER TABLE conversations ADD COLUMN user TEXT NOT NULL DEFAULT '';
        CREATE INDEX conversations_user ON conversations(user);
    """)


@MIGRATIONS()
def m006_branches(db: Database) -> None:
    """Conversations become trees: a question knows the reply it follows, and what is shown and sampled is remembered.

    A question's parent is the first reply it follows (of an unanswered question, that question); of an opening question
    it is null. Until now every question followed the one before.
    """
    db.executescript("""
        CREATE TABLE conversation_choices (
            conversation_id TEXT PRIMARY KEY NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
            leaf_id TEXT,
            sampling TEXT NOT NULL DEFAULT '{}'
        );
        UPDATE messages SET parent_id = (
            SELECT p.id FROM messages p WHERE p.conversation_id = messages.conversation_id
            AND p.position < messages.position AND p.role IN ('user', 'assistant') AND p.kind = 'message'
            ORDER BY p.position DESC LIMIT 1
        ) WHERE role = 'user' AND parent_id IS NULL AND position > 0;
    """)


@MIGRATIONS()
def m007_sessions(db: Database) -> None:
    """Logins that last, by the SHA-256 of what the cookie holds, and the signed requests that were used."""
    db.executescript("""
        CREATE TABLE sessions (
            id_sha256 TEXT PRIMARY KEY NOT NULL,
            user TEXT NOT NULL,
            stamp TEXT NOT NULL,
            expires_at_utc TEXT NOT NULL
        );
        CREATE TABLE used_requests (
            key TEXT NOT NULL,
            nonce TEXT NOT NULL,
            until REAL NOT NULL,
            PRIMARY KEY (key, nonce)
        ) WITHOUT ROWID;
    """)


@MIGRATIONS()
def m008_known_browsers(db: Database) -> None:
    """Browsers in which somebody logged in before, by the SHA-256 of their cookie."""
    db.execute("CREATE TABLE known_browsers (id_sha256 TEXT PRIMARY KEY NOT NULL, user TEXT NOT NULL)")


@MIGRATIONS()
def m009_neighbours(db: Database) -> None:
    """Questions like a corrected one that the base model made; they go with the trace they were made for."""
    db.executescript("""
        CREATE TABLE neighbours (
            trace_id TEXT PRIMARY KEY NOT NULL REFERENCES traces(id) ON DELETE CASCADE,
            made TEXT NOT NULL
        );
    """)


@MIGRATIONS()
def m010_reply_endings(db: Database) -> None:
    """How a reply of the model ended: `ended`, `length`, `stopped` or `lost` (records.ENDINGS).

    Null for what the model did not write, and for replies that were stored before this column.
    """
    db.execute("ALTER TABLE messages ADD COLUMN ending TEXT")


@MIGRATIONS()
def m011_search(db: Database) -> None:
    """Case-folded forms of titles and messages that are not plain ASCII, for search (folding.folded)."""
    db.executescript("""
        ALTER TABLE conversations ADD COLUMN folded TEXT;
        ALTER TABLE messages ADD COLUMN folded TEXT;
    """)
    db.conn.create_function("folded", 1, folded, deterministic=True)
    db.executescript("""
        UPDATE conversations SET folded = folded(title) WHERE folded(title) IS NOT NULL;
        UPDATE messages SET folded = folded(text) WHERE folded(text) IS NOT NULL;
    """)


@MIGRATIONS()
def m012_words_erased(db: Database) -> None:
    """Hints that stand for all questions are named by the message they are in, and no more copied into figures.

    That there were some still counts, so a mark stays in their place. Since this migration, what is deleted is
    overwritten.
    """
    for table in ("rounds", "adapters"):
        db.execute(
            f"UPDATE {table} SET figures = json_set(figures, '$.wishes', json('[\"\"]')) "
            "WHERE json_array_length(figures, '$.wishes') > 0"
        )


@MIGRATIONS()
def m013_proofs_by_question(db: Database) -> None:
    """Finds the rounds that quote a question, so that erasing a conversation reads no table as a whole."""
    db.execute("CREATE INDEX rounds_proof_prompt ON rounds(json_extract(proof, '$.prompt'))")
    db.execute("CREATE INDEX rounds_quoting ON rounds(json_array_length(figures, '$.gate.changed'))")


@MIGRATIONS()
def m014_corrections_in_chat(db: Database) -> None:
    """Which reply another one corrects, where a person's next message said what was wrong with it.

    A reply that was corrected so is `objected` to, as one that was voted down.
    """
    db.executescript("""
        ALTER TABLE messages ADD COLUMN corrects_id TEXT REFERENCES messages(id);
        CREATE INDEX messages_corrects ON messages(corrects_id) WHERE corrects_id IS NOT NULL;
        CREATE TRIGGER reply_corrected AFTER UPDATE OF corrects_id ON messages WHEN NEW.corrects_id IS NOT NULL BEGIN
            UPDATE messages SET objected = 1 WHERE id = NEW.corrects_id;
        END;
        CREATE TRIGGER correction_added AFTER INSERT ON messages WHEN NEW.corrects_id IS NOT NULL BEGIN
            UPDATE messages SET objected = 1 WHERE id = NEW.corrects_id;
        END;
        DROP TRIGGER vote_taken_back;
        CREATE TRIGGER vote_taken_back AFTER DELETE ON votes WHEN OLD.value = -1 BEGIN
            UPDATE messages SET objected = EXISTS (
                SELECT 1 FROM messages r WHERE r.revises_id = OLD.message_id
                UNION ALL SELECT 1 FROM messages r WHERE r.corrects_id = OLD.message_id
            ) WHERE id = OLD.message_id;
        END;
    """)


@MIGRATIONS()
def m015_reply_speed(db: Database) -> None:
    """How many tokens the model wrote of a reply, and the seconds from the first of them to the last."""
    db.executescript("""
        ALTER TABLE messages ADD COLUMN tokens INTEGER;
        ALTER TABLE messages ADD COLUMN seconds REAL;
    """)


@MIGRATIONS()
def m016_peer_questions(db: Database) -> None:
    """What peers were taught, as they sent it, by the merged version whose scope it is part of."""
    db.executescript("""
        CREATE TABLE peer_questions (
            base TEXT NOT NULL,
            version INTEGER NOT NULL,
            peer TEXT NOT NULL,
            questions TEXT NOT NULL,
            PRIMARY KEY (base, version, peer),
            FOREIGN KEY (base, version) REFERENCES adapters(base, version)
        );
    """)


@MIGRATIONS()
def m017_edits_voted_up(db: Database) -> None:
    """Traces about a person's own text are about the reply that it replaced, so that they go with it."""
    db.execute("""
        UPDATE traces SET subject_id = (SELECT revises_id FROM messages WHERE id = traces.subject_id)
        WHERE subject_id IN (SELECT id FROM messages WHERE kind = 'edit' AND revises_id IS NOT NULL)
    """)


@MIGRATIONS()
def m018_messages_by_text(db: Database) -> None:
    """Finds the conversations in which a user said exactly a text, however many there are."""
    db.execute("CREATE INDEX messages_said ON messages(substr(text, 1, 64)) WHERE role = 'user'")


OVERWRITES_DELETED = "m012_words_erased"


def known_names() -> frozenset[str]:
    """Every migration of this version: on an empty database, all are pending."""
    with Database(memory=True, execute_plugins=False) as empty:
        return frozenset(migration.name for migration in MIGRATIONS.pending(empty))
