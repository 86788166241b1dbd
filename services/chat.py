"""Conversations and replies, first ones and revisions. No votes' meaning (feedback.py), no training (learning.py)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator

from feedback_store import Conversation, Message, UnknownRecord
from services.conversation import attempts, prompt_up_to, root_id
from services.engine import Engine
from services.feedback import FeedbackService
from services.views import ConversationView, MessageView
from spear_core.errors import SpearError
from spear_core.generate import stream_reply
from spear_core.prompts import revision_messages
from spear_core.refused import way_out
from spear_core.traces import Messages

log = logging.getLogger(__name__)
MAX_MESSAGE_CHARACTERS = 100_000
TITLE_CHARACTERS = 48
REVISION_TEMPERATURE = 0.5  # of revisions after the first; the paper has 0.8, and the two have not been compared
MOST_REPEATS = 3  # times a revision that repeats a refused answer is written anew before it stands


class ChatService:
    def __init__(self, engine: Engine, feedback: FeedbackService) -> None:
        self._engine = engine
        self._store = engine.store
        self._feedback = feedback
        self._running: dict[str, threading.Event] = {}

    # -- conversations ---------------------------------------------------------------------------------------

    def new_conversation(self, learn: bool = True) -> ConversationView:
        return _conversation_view(self._store.create_conversation(learn=learn))

    def conversations(self) -> list[ConversationView]:
        return [_conversation_view(c) for c in self._store.conversations()]

    def conversation(self, conversation_id: str) -> ConversationView:
        """Raises UnknownRecord."""
        return _conversation_view(self._store.conversation(conversation_id))

    def set_learn(self, conversation_id: str, learn: bool) -> None:
        """False: nothing said in this conversation is trained on. What was already learned stays."""
        self._store.set_learn(conversation_id, learn)
        if learn:
            self._feedback.on_new_traces()

    def rename(self, conversation_id: str, title: str) -> None:
        self._store.rename_conversation(conversation_id, title.strip()[:TITLE_CHARACTERS] or "Untitled")

    def delete(self, conversation_id: str) -> None:
        self.stop(conversation_id)
        self._store.delete_conversation(conversation_id)

    def messages(self, conversation_id: str) -> list[MessageView]:
        """Everything the screen shows, in order, with votes and verdicts."""
        messages = self._store.messages(conversation_id)
        votes = self._store.votes(conversation_id)
        last_try = {m.revises_id: m.id for m in messages if m.kind == "revision"}
        return [
            _message_view(m, votes.get(m.id, 0), can_be_judged=last_try.get(m.revises_id) == m.id)
            for m in messages
            if m.role != "system"
        ]

    # -- replies ---------------------------------------------------------------------------------------------

    def reply(self, conversation_id: str, text: str) -> Iterator[MessageView]:
        """Store the question and stream the reply: growing views of one message, the last one complete.

        Raises SpearError for an empty or overlong message, UnknownRecord for an unknown conversation.
        """
        text = text.strip()
        if not text:
            raise SpearError("Type a message first.")
        if len(text) > MAX_MESSAGE_CHARACTERS:
            raise SpearError(
                f"That message is too long: {len(text):,} characters; {MAX_MESSAGE_CHARACTERS:,} are allowed."
            )
        if conversation_id in self._running:
            raise SpearError("A reply is still being written in this conversation; wait for it or stop it.")
        conversation = self._store.conversation(conversation_id)
        if not conversation.title:
            self._store.rename_conversation(conversation_id, _title(text))
        question = self._store.add_message(conversation_id, "user", text)
        prompt = prompt_up_to(self._store.messages(conversation_id), question.id)
        reply = self._store.add_message(
            conversation_id,
            "assistant",
            "",
            parent_id=question.id,
            adapter_version=self._engine.twins.serving.version,
            complete=False,
        )
        yield from self._stream(reply, prompt, temperature=0.0)

    def revise(self, message_id: str, hint: str) -> Iterator[MessageView]:
        """Thumbs-down with a hint (may be empty): stream a revision of the reply as a new message.

        Raises SpearError when the revisions are used up, UnknownRecord for an unknown message.
        """
        complained = self._store.message(message_id)
        if complained.role != "assistant" or complained.kind == "edit":
            raise SpearError("Only a reply of the model can be revised.")
        if complained.conversation_id in self._running:
            raise SpearError("A reply is still being written in this conversation; wait for it or stop it.")
        hint = hint.strip()[:MAX_MESSAGE_CHARACTERS]
        first = self._store.message(root_id(complained))
        tried = [m for m in self._store.revisions_of(first.id) if m.kind == "revision"]
        if len(tried) >= self._engine.config.num_revisions:
            raise SpearError("The model has tried as often as it may; edit the reply into what you wanted instead.")
        if tried and tried[-1].verdict is None:
            self._store.set_verdict(tried[-1].id, "still_wrong")
        self._feedback.complain(first.id, complained.id, hint)
        messages = self._store.messages(first.conversation_id)
        assert first.parent_id is not None  # a first reply always answers a question
        prompt = prompt_up_to(messages, first.parent_id)
        last = tried[-1] if tried else first
        history = [*attempts(messages, first.id), (last.text, hint)]
        revision = self._store.add_message(
            first.conversation_id,
            "assistant",
            "",
            kind="revision",
            parent_id=first.parent_id,
            revises_id=first.id,
            hint=hint,
            adapter_version=self._engine.twins.serving.version,
            complete=False,
        )
        asked = revision_messages(prompt, history, self._engine.loaded.settings)
        refused = {m.text for m in (first, *tried)}
        yield from self._stream(revision, asked, temperature=REVISION_TEMPERATURE if tried else 0.0, refused=refused)

    def stop(self, conversation_id: str) -> None:
        """End the reply being written, which keeps what it has. Nothing happens when none is."""
        if event := self._running.get(conversation_id):
            event.set()

    def _stream(
        self, message: Message, prompt: Messages, temperature: float, refused: Collection[str] = ()
    ) -> Iterator[MessageView]:
        """Growing views of one reply. What repeats a `refused` answer is written anew in its place."""
        engine, serving = self._engine, self._engine.twins.serving
        stop = self._running[message.conversation_id] = threading.Event()
        text = ""
        banned: list[list[int]] = []
        try:
            with engine.pace.replying():
                for _ in range(1 + MOST_REPEATS):
                    for text in stream_reply(
                        serving.model,
                        engine.loaded.tokenizer,
                        prompt,
                        context_tokens=engine.loaded.context_tokens,
                        max_new_tokens=engine.max_new_tokens,
                        temperature=temperature,
                        banned=banned,
                        stop=stop,
                    ):
                        yield _message_view(message, 0, text=text)
                    if stop.is_set() or text not in refused:
                        break
                    if way := way_out(serving.model, engine.encoder, engine.pad_id, prompt, text):
                        banned.append(way)
        finally:
            # also when the reader went away in the middle: what was said is kept
            self._running.pop(message.conversation_id, None)
            try:
                self._store.update_message(message.id, text=text, complete=True, adapter_version=serving.version)
            except UnknownRecord:
                log.info("conversation %s was deleted while its reply was being written", message.conversation_id)
        done = self._store.message(message.id)
        yield _message_view(done, self._store.vote(done.id), can_be_judged=done.kind == "revision")


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1] + "…"


def _conversation_view(c: Conversation) -> ConversationView:
    return ConversationView(c.id, c.title or "New conversation", c.learn, c.created_at_utc)


def _message_view(m: Message, vote: int, *, can_be_judged: bool = False, text: str | None = None) -> MessageView:
    return MessageView(
        id=m.id,
        conversation_id=m.conversation_id,
        role=m.role,
        kind=m.kind,
        text=m.text if text is None else text,
        vote=vote,
        revises=m.revises_id,
        hint=m.hint,
        verdict=m.verdict,
        can_be_judged=can_be_judged and m.kind == "revision" and m.verdict is None and m.complete,
        adapter_version=m.adapter_version,
        complete=m.complete if text is None else False,
    )
