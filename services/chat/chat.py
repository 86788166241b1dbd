"""Conversations, replies and revisions. Votes are in feedback.py, training in services/learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from feedback_store import Message, StoreError
from services.chat.conversation_tree import (
    own_system_prompt,
    prompt_up_to,
    refused_replies,
    root_id,
    shown_path,
    subject_id,
    system_prompt,
)
from services.chat.feedback import FeedbackService
from services.chat.message_views import can_be_learned, conversation_view, message_view, shown_messages
from services.chat.replies import Replies, Writing
from services.chat.revisions import Revision
from services.chat.sampling import Sampling, usual_sampling
from services.chat.spoken_corrections import possible_correction
from services.engine import Engine
from services.settings import MAX_MESSAGE_CHARACTERS
from services.views import ConversationView, MessageView
from spear_core.errors import SpearError
from spear_core.inference.generation import Finish
from spear_core.training.traces import Messages

TITLE_CHARACTERS = 48
REVISION_TEMPERATURE = 0.5  # of second and later revisions; the paper uses 0.8, which was not compared
AGAIN_TEMPERATURE = 0.7  # the lowest for regenerating with the same model: greedy decoding would repeat the reply


class ChatService:
    """Conversations of one store: list, open, ask, regenerate, continue, revise. Replies are streamed."""

    def __init__(self, engine: Engine, feedback: FeedbackService) -> None:
        self._engine = engine
        self._store = engine.store
        self._feedback = feedback
        self._replies = Replies(engine)

    # -- conversations ---------------------------------------------------------------------------------------

    def new_conversation(self, learn: bool = True) -> ConversationView:
        """Create an empty conversation; `learn` says whether it may be trained on."""
        with self._store.transaction(flushed=False):
            return conversation_view(self._store.create_conversation(learn=learn))

    def conversations(self, search: str = "", limit: int = 1000, after: str | None = None) -> list[ConversationView]:
        """At most `limit` conversations, newest first; with `search`, those whose title or messages contain it.

        `after` is the id of the last one of the page before. Raises UnknownRecord where there is no such conversation.
        """
        return [conversation_view(c) for c in self._store.conversations(limit, search=search.strip(), after=after)]

    def conversation(self, conversation_id: str) -> ConversationView:
        """One conversation. Raises UnknownRecord."""
        return conversation_view(self._store.conversation(conversation_id))

    def set_learn(self, conversation_id: str, learn: bool) -> None:
        """Allow or forbid training on this conversation. What was learned before stays. Raises UnknownRecord."""
        self._store.set_learn(conversation_id, learn)
        if learn:
            self._feedback.on_new_traces()

    def rename(self, conversation_id: str, title: str) -> None:
        """Set the title, cut to TITLE_CHARACTERS. Raises UnknownRecord."""
        self._store.rename_conversation(conversation_id, title.strip()[:TITLE_CHARACTERS] or "Untitled")

    def delete(self, conversation_id: str) -> None:
        """Stop a reply that is being written and delete the conversation. Raises UnknownRecord."""
        self.stop(conversation_id)
        self._store.delete_conversation(conversation_id)
        self._feedback.on_new_traces()
        self._engine.batching.prefixes.drop(conversation_id)

    def usual_sampling(self) -> Sampling:
        """The sampling settings of the current model, for conversations that set none."""
        return usual_sampling(self._engine.loaded)

    def sampling(self, conversation_id: str) -> Sampling:
        """The sampling settings of a conversation, over those of the model."""
        return replace(self.usual_sampling(), **self._store.sampling(conversation_id))

    def set_sampling(self, conversation_id: str, sampling: Sampling) -> None:
        """Store the sampling settings of a conversation. Raises UnknownRecord."""
        self._store.set_sampling(conversation_id, asdict(sampling))

    def system_prompt(self, conversation_id: str) -> str:
        """The system prompt set for this conversation; empty where the user's default applies."""
        return own_system_prompt(self._store.messages(conversation_id))

    def set_system_prompt(self, conversation_id: str, text: str) -> None:
        """Set the system prompt from the next question on; an empty one means the user's default. Raises UnknownRecord."""
        text = text.strip()[:MAX_MESSAGE_CHARACTERS]
        if text != self.system_prompt(conversation_id):
            self._store.add_message(conversation_id, "system", text)

    def told(self, conversation_id: str) -> str:
        """The system prompt that applied to the last question."""
        return system_prompt(self._store.messages(conversation_id))

    def messages(self, conversation_id: str) -> list[MessageView]:
        """The messages of the chosen branch in order, with votes and verdicts."""
        with suppress(StoreError):
            self._replies.store_late(conversation_id)
        most_tries = self._engine.config.num_revisions
        return shown_messages(self._store, conversation_id, most_tries, self._engine.gives_refused)

    def message(self, message_id: str) -> MessageView:
        """One message as in `messages`, without its other versions. Raises UnknownRecord."""
        message = self._store.message(message_id)
        tries = [m.id for m in self._store.revisions_of(root_id(message)) if m.kind == "revision"]
        return message_view(
            message,
            self._store.vote(message.id),
            can_be_judged=tries[-1:] == [message.id],
            can_be_learned=can_be_learned(self._store, message),
        )

    def choose(self, message_id: str) -> None:
        """Show the branch that contains this version of a question or reply. Raises UnknownRecord."""
        message = self._store.message(message_id)
        self._store.set_leaf(message.conversation_id, root_id(message))

    # -- replies ---------------------------------------------------------------------------------------------

    def reply(
        self,
        conversation_id: str,
        text: str,
        *,
        after: str | None = None,
        drawn: Mapping[str, Any] | None = None,
        on_finish: Callable[[Finish], None] = lambda finish: None,
    ) -> Iterator[MessageView]:
        """Store the question and stream the reply.

        A reader who leaves does not end the reply: `follow` continues to read it, `stop` ends it.

        Args:
            conversation_id: where to ask.
            text: the question.
            after: id of the reply that the question follows; by default the last one of the branch that is shown.
            drawn: fields of Sampling that replace the conversation's for this reply. Programs give them; then the model
                reads all that was said before, as examples may be among it.
            on_finish: called with the reason for which the reply ended.

        Yields:
            The reply as far as it is written, each time whole; the last view is complete.

        Raises:
            SpearError: for an empty or overlong message.
            ConversationBusy: while another reply is being written in the conversation.
            UnknownRecord: for an unknown conversation.
        """
        text = _checked(text)
        with self._replies.alone(conversation_id) as conversation:
            messages = self._store.messages(conversation_id)
            path = shown_path(messages, self._store.leaf(conversation_id))
            sampling = replace(self.sampling(conversation_id), **(drawn or {}))
            with self._store.transaction(flushed=False):
                if not conversation.title:
                    self._store.rename_conversation(conversation_id, _title(text))
                parent_id = after or (path[-1].id if path else None)
                messages += self._told(conversation_id, messages)
                question = self._store.add_message(conversation_id, "user", text, parent_id=parent_id)
                reply = self._unwritten(question)
            before = shown_path(messages, parent_id)
            writing = self._answer(reply, [*messages, question], sampling, before, as_given=drawn is not None)
        yield from self._read(writing)
        on_finish(writing.finish or Finish.STOPPED)

    def resend(self, message_id: str, text: str) -> Iterator[MessageView]:
        """Ask an edited question; the earlier one remains as another branch. Yields and raises as `reply`."""
        text = _checked(text)
        earlier = self._store.message(message_id)
        if earlier.role != "user":
            raise SpearError("Only a message of yours can be changed and sent again.")
        with self._replies.alone(earlier.conversation_id):
            messages, sampling = self._store.messages(earlier.conversation_id), self.sampling(earlier.conversation_id)
            with self._store.transaction(flushed=False):
                messages += self._told(earlier.conversation_id, messages)
                question = self._store.add_message(earlier.conversation_id, "user", text, parent_id=earlier.parent_id)
                reply = self._unwritten(question)
            before = shown_path(messages, earlier.id)
            before = before[: before.index(earlier)]
            writing = self._answer(reply, [*messages, question], sampling, before)
        yield from self._read(writing)

    def regenerate(self, message_id: str) -> Iterator[MessageView]:
        """Generate a reply again; the earlier one remains as another branch. Yields and raises as `reply`."""
        earlier = self._store.message(root_id(self._store.message(message_id)))
        if earlier.role != "assistant" or earlier.parent_id is None:
            raise SpearError("Only a reply of the model can be asked for again.")
        same_model = earlier.adapter_version == self._engine.shared_models.serving.version
        with self._replies.alone(earlier.conversation_id):
            messages, sampling = self._store.messages(earlier.conversation_id), self.sampling(earlier.conversation_id)
            if same_model:
                sampling = replace(sampling, temperature=max(sampling.temperature, AGAIN_TEMPERATURE))
            with self._store.transaction(flushed=False):
                reply = self._unwritten(self._store.message(earlier.parent_id))
            writing = self._answer(reply, messages, sampling)
        yield from self._read(writing)

    def go_on(self, message_id: str) -> Iterator[MessageView]:
        """Continue a reply or revision that was cut off, in the same message. Yields and raises as `reply`.

        Feedback on it makes traces once it has ended by itself (FeedbackService.continued).
        """
        message = self._store.message(message_id)
        if message.role != "assistant" or not message.is_cut:
            raise SpearError("Only a reply that was cut off can be continued.")
        with self._replies.alone(message.conversation_id):
            writing = self._go_on(self._store.message(message_id))
        yield from self._read(writing)

    def _go_on(self, message: Message) -> Writing:
        messages = self._store.messages(message.conversation_id)
        first = next(m for m in messages if m.id == root_id(message))
        assert first.parent_id is not None  # a first reply always answers a question
        path = shown_path(messages, self._store.leaf(message.conversation_id))
        if path[-1:] != [first]:
            raise SpearError("Only the last reply of a conversation can be continued.")
        prompt, sampling = prompt_up_to(messages, first.parent_id), self.sampling(message.conversation_id)
        if message.kind == "revision":
            earlier = [m for m in messages if m.position < message.position]
            tried = refused_replies(earlier, path, first, message.hint or "")
            prompt, sampling = Revision(prompt, tried, self._engine.loaded.settings).request, Sampling()
        self._store.update_message(message.id, complete=False)
        heard = partial(self._feedback.continued, message.id)
        return self._replies.begin(message, prompt, sampling, begun=message.text, once_stored=heard)

    def revise(self, message_id: str, hint: str) -> Iterator[MessageView]:
        """Store a thumbs-down with its hint, which may be empty, and stream a revision as a new message.

        A complaint about the reply to a correction made by talking is one about the reply that was corrected. Yields as
        `reply`. Raises SpearError when no further revision is allowed, UnknownRecord for an unknown message.
        """
        complained = self._store.message(message_id)
        if complained.role != "assistant" or complained.kind == "edit":
            raise SpearError("Only a reply of the model can be revised.")
        with self._replies.alone(complained.conversation_id):
            writing = self._revise(complained, hint.strip()[:MAX_MESSAGE_CHARACTERS])
        yield from self._read(writing)

    def _revise(self, complained: Message, hint: str) -> Writing:
        first = self._store.message(subject_id(complained))
        tried = [m for m in self._store.revisions_of(first.id) if m.kind == "revision"]
        if len(tried) >= self._engine.config.num_revisions:
            raise SpearError(
                f"The model has used its {self._engine.config.num_revisions} tries; write the right answer yourself."
            )
        if tried and tried[-1].verdict is None:
            self._store.set_verdict(tried[-1].id, "still_wrong")
        self._feedback.complain(first.id, complained.id, hint)
        messages = self._store.messages(first.conversation_id)
        assert first.parent_id is not None  # a first reply always answers a question
        prompt = prompt_up_to(messages, first.parent_id)
        history = refused_replies(messages, shown_path(messages, root_id(complained)), first, hint)
        revision = self._store.add_message(
            first.conversation_id,
            "assistant",
            "",
            kind="revision",
            parent_id=first.parent_id,
            revises_id=first.id,
            hint=hint,
            adapter_version=self._engine.shared_models.serving.version,
            complete=False,
        )
        asked = Revision(prompt, history, self._engine.loaded.settings)
        sampling = Sampling(REVISION_TEMPERATURE if tried else 0.0)
        return self._replies.begin(revision, asked.request, sampling, asked)

    def follow(self, conversation_id: str) -> Iterator[MessageView]:
        """Stream the reply that is being written in a conversation, if there is one. Yields as `reply`."""
        if writing := self._replies.of(conversation_id):
            yield from self._read(writing)

    def prompt_of(self, message_id: str) -> Messages:
        """The messages that a reply answered. Raises UnknownRecord, and SpearError for a message that is not a reply."""
        first = self._store.message(root_id(self._store.message(message_id)))
        if first.role != "assistant" or first.parent_id is None:
            raise SpearError("Only a reply of the model can be compared.")
        return prompt_up_to(self._store.messages(first.conversation_id), first.parent_id)

    def stop(self, conversation_id: str, message_id: str | None = None, *, is_reader_lost: bool = False) -> None:
        """End the reply that is being written, if there is one; its text so far is kept.

        Args:
            conversation_id: where to stop.
            message_id: of the only reply that may be ended; None for whichever is being written.
            is_reader_lost: the connection to the only reader broke; nobody asked for the end.
        """
        self._replies.stop(conversation_id, message_id, is_reader_lost=is_reader_lost)

    def close(self) -> None:
        """End every reply that is being written, and wait until its text so far is stored."""
        self._replies.close()

    # -- writing ---------------------------------------------------------------------------------------------

    def _told(self, conversation_id: str, messages: Sequence[Message]) -> list[Message]:
        """The system message for the next question, where it differs from the last one; else nothing.

        It is stored with the conversation, so that training uses the same prompt.
        """
        text = own_system_prompt(messages) or self._feedback.preferences.system_prompt
        if text == system_prompt(messages):
            return []
        return [self._store.add_message(conversation_id, "system", text, kind="default")]

    def _unwritten(self, question: Message) -> Message:
        """Store an empty reply, inside the transaction that stores its question.

        The transaction is not flushed, so that the first token does not wait for the disk. The end of the reply is; a
        power cut before it also loses the question.
        """
        reply = self._store.add_message(
            question.conversation_id,
            "assistant",
            "",
            parent_id=question.id,
            adapter_version=self._engine.shared_models.serving.version,
            complete=False,
        )
        self._store.set_leaf(question.conversation_id, reply.id)
        return reply

    def _answer(
        self,
        reply: Message,
        messages: Sequence[Message],
        sampling: Sampling,
        before: Sequence[Message] = (),
        as_given: bool = False,
    ) -> Writing:
        """Begin to write a reply. `messages` include its question; `before` are the questions and replies ahead of it.

        The question may correct the last of `before`. `as_given`: a program chose what is said before it.
        """
        assert reply.parent_id is not None
        asked = next(m.text for m in messages if m.id == reply.parent_id)
        return self._replies.begin(
            reply,
            prompt_up_to(messages, reply.parent_id),
            sampling,
            once_stored=partial(self._feedback.corrected, reply.id),
            correction=possible_correction(
                messages,
                before,
                asked,
                self._engine.loaded.settings,
                has_classifier=self._engine.corrections.classifier(self._engine) is not None,
            ),
            as_given=as_given,
        )

    def _read(self, writing: Writing) -> Iterator[MessageView]:
        message = self._store.message(writing.message_id)
        for text in writing.read():
            corrects = writing.correction.first_id if writing.correction else None
            now = replace(message, adapter_version=writing.serving.version, corrects_id=corrects)
            yield message_view(now, 0, text=text)
        done = self._store.message(message.id)
        yield message_view(
            done,
            self._store.vote(done.id),
            can_be_judged=done.kind == "revision",
            can_go_on=done.is_cut,
            can_be_learned=can_be_learned(self._store, done),
        )


def _checked(text: str) -> str:
    text = text.strip()
    if not text:
        raise SpearError("Type a message first.")
    if len(text) > MAX_MESSAGE_CHARACTERS:
        raise SpearError(f"That message is too long: {len(text):,} characters; {MAX_MESSAGE_CHARACTERS:,} are allowed.")
    return text


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1] + "…"
