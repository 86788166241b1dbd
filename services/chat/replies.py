"""Replies under way: each is written by a thread of its own, so that readers may leave and come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from feedback_store import FROM_MEMORY, Conversation, Message, StoreError, UnknownRecord
from services.chat.revisions import Revision
from services.chat.sampling import Sampling, cut_as_asked
from services.chat.spoken_corrections import Correction
from services.engine import Engine
from spear_core.errors import SpearError
from spear_core.inference.generation import Finish
from spear_core.inference.refused_answers import least_certain_prefix
from spear_core.inference.repeated_replies import not_again, without_copies
from spear_core.inference.told_facts import told_fact
from spear_core.models.causal_model import CausalModel
from spear_core.models.shared_base import Serving
from spear_core.training.judge import normalised
from spear_core.training.traces import Messages

log = logging.getLogger(__name__)
WAIT_SECONDS = 1.0  # after which a waiting reader checks again whether the reply is over
# times that a revision which repeats a refused answer, or "another" reply that was given before, is written again; then it
# is shown all the same
MOST_REPEATS = 3
BUSY = "A reply is still being written in this conversation; wait for it or stop it."


class ConversationBusy(SpearError):
    """A reply is being written in the conversation; what was asked may succeed when it has ended."""


class Writing:
    """A reply that is being written. Any number of readers may `read` it; setting `stop` ends it early."""

    def __init__(self, message_id: str, serving: Serving) -> None:
        self.message_id = message_id
        self.serving = serving
        self.stop = threading.Event()
        self.text = ""  # the whole reply so far
        self.is_reader_lost = False  # `stop` was set because of a broken connection, not by a person
        self.is_over = False
        self.finish: Finish | None = None  # why the model stopped, once it is over
        self.correction: Correction | None = None  # the correction that the question turned out to be
        self.written: tuple[int, float] | None = None  # tokens, and seconds from the first to the last
        self._grew_at: list[float] = []  # monotonic times, in seconds, of the first and the last change of the text
        self._changed = threading.Condition()
        self._error: BaseException | None = None

    @property
    def ending(self) -> str:
        """How the reply ended: one of feedback_store's ENDINGS."""
        if self.finish is None or (self.finish is Finish.STOPPED and self.is_reader_lost):
            return "lost"
        if self.finish is Finish.STOP_STRING:  # set by the client, so it counts as stopped by the client
            return Finish.STOPPED.value
        return self.finish.value

    def start(self, write: Callable[[Writing], None]) -> None:
        """Call `write` in a thread of its own."""

        def work() -> None:
            try:
                write(self)
            except BaseException as error:  # raised again by `read`, in the readers' threads
                self._error = error
            finally:
                with self._changed:
                    self.is_over = True
                    self._changed.notify_all()

        self._thread = threading.Thread(target=work, name="writing", daemon=True)
        self._thread.start()

    def grow(self, text: str) -> None:
        """Set the whole text so far; readers are woken."""
        with self._changed:
            self.text = text
            self._grew_at[1:] = [time.monotonic()]
            self._changed.notify_all()

    @property
    def seconds(self) -> float:
        """Seconds between the first and the last change of the text so far."""
        return self._grew_at[-1] - self._grew_at[0] if self._grew_at else 0.0

    def read(self) -> Iterator[str]:
        """Yield the whole text after each change, until the reply is over. Raises what the writer raised."""
        seen: str | None = None
        while True:
            with self._changed:
                while not self.is_over and self.text == (seen or ""):
                    self._changed.wait(WAIT_SECONDS)
                is_over, text = self.is_over, self.text
            if text and text != seen:
                seen = text
                yield text
            if is_over:
                break
        if self._error:
            raise self._error

    def wait(self) -> None:
        """Wait for the end of the writer's thread."""
        self._thread.join()


@dataclass(frozen=True)
class _Task:
    """What `Replies.begin` was given."""

    message: Message
    prompt: Messages
    sampling: Sampling
    revision: Revision | None
    begun: str
    correction: Correction | None
    as_given: bool


class Replies:
    """The replies of one user that are being written, at most one in a conversation."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._lock = threading.RLock()
        self._running: dict[str, Writing] = {}  # by conversation id, until the end of the reply is stored

    @contextmanager
    def alone(self, conversation_id: str) -> Iterator[Conversation]:
        """Hold the conversation so that no other reply begins in it; gives its record.

        Raises ConversationBusy where a reply is being written, UnknownRecord, and StoreError where the end of the last reply
        still cannot be stored.
        """
        with self._lock:
            self.store_late(conversation_id)
            if conversation_id in self._running:
                raise ConversationBusy(BUSY)
            yield self._store.conversation(conversation_id)

    def begin(
        self,
        message: Message,
        prompt: Messages,
        sampling: Sampling,
        revision: Revision | None = None,
        begun: str = "",
        once_stored: Callable[[], None] = lambda: None,
        correction: Correction | None = None,
        as_given: bool = False,
    ) -> Writing:
        """Begin to write one reply in a thread of its own. Call it inside `alone`.

        Args:
            message: the stored reply, still empty or cut off.
            prompt: the messages that it answers.
            sampling: how it is decoded.
            revision: of a revision, what it revises; one that repeats a refused answer is written again.
            begun: the text of a reply that is continued.
            once_stored: called in the writer's thread when the end of the reply is stored.
            correction: what the question may correct. Where the model finds that it does, the reply is the revision,
                and the usual reply where no revision can be made.
            as_given: whether the model reads the prompt as it is, whatever it is likely to copy from it.
        """
        task = _Task(message, prompt, sampling, revision, begun, correction, as_given)
        engine = replace(self._engine)

        def write(writing: Writing) -> None:
            try:
                with engine.priority.foreground(), ExitStack() as until_its_first_text:
                    until_its_first_text.enter_context(engine.priority.urgent())
                    if found := self._known(engine, writing, task):
                        writing.grow(found)
                    else:
                        self._decode(engine, writing, task, until_its_first_text.close)
                if not found and writing.serving.version >= 0:
                    said = engine.loaded.tokenizer(writing.text[len(begun) :], add_special_tokens=False)
                    writing.written = len(said["input_ids"]), writing.seconds
            finally:
                self._store_end(message.conversation_id, writing)
            once_stored()

        writing = self._running[message.conversation_id] = Writing(message.id, engine.shared_models.serving)
        writing.text = begun
        writing.start(write)
        return writing

    def _known(self, engine: Engine, writing: Writing, task: _Task) -> str:
        """The reply where its answer is known before the model writes one: stated by a hint, by a correction, or told before.

        Empty where the model has to write it. `writing.correction` says whether that is to be a revision.
        """
        if task.revision is not None:
            return self._stated(engine, writing, task.revision)
        found = self._corrected(engine, writing, task.correction) if task.correction else ""
        if found or writing.correction or task.as_given or task.begun:
            return found
        return self._told(engine, writing, task.prompt, task.message.conversation_id)

    def _decode(self, engine: Engine, writing: Writing, task: _Task, on_text: Callable[[], None]) -> None:
        """Let the model write the reply, again where it repeats what is not wanted. `on_text` is called with each text shown."""
        revision = writing.correction.revision if writing.correction else task.revision
        is_plain = revision is None
        asked, drawn = (
            (revision.request, Sampling()) if writing.correction and revision else (task.prompt, task.sampling)
        )
        unwanted = not_again(task.prompt) if is_plain and not (task.as_given or task.begun) else set()
        banned: list[list[int]] = []
        for number in range(1 + MOST_REPEATS):
            text = ""
            for text in growing(
                writing,
                engine,
                asked,
                drawn,
                banned,
                task.message.conversation_id,
                task.begun,
                skips_thought=not is_plain or task.message.kind == "revision",
                as_given=task.as_given or not is_plain,
            ):
                if any(reply.startswith(normalised(text)) for reply in unwanted):
                    continue  # held back until it goes on otherwise
                if shown := revision.shown(text) if revision else text:
                    writing.grow(shown)
                    on_text()
            if revision is not None:
                writing.grow(revision.shown(text, is_over=True))
                is_again = revision.repeats(writing.text)
            else:  # what was taught is the answer, however often it is asked for
                is_again = normalised(text) in unwanted and writing.serving.version == 0
                if unwanted and (not is_again or number == MOST_REPEATS or writing.stop.is_set()):
                    writing.grow(text)
            if writing.stop.is_set() or not is_again:
                return
            model = writing.serving.model
            if way := least_certain_prefix(model, engine.encoder, engine.pad_id, asked, text):
                banned.append(way)

    def _stated(self, engine: Engine, writing: Writing, revision: Revision) -> str:
        """The best sentence with the answer that the hint states; empty where there is none."""
        writing.serving = engine.scope.serving(engine, revision.prompt)
        found = revision.candidates(writing.serving.model, engine.encoder, writing.stop.is_set)
        if not found or writing.stop.is_set():
            return ""
        writing.finish = Finish.ENDED
        return found[0].text

    def _corrected(self, engine: Engine, writing: Writing, correction: Correction) -> str:
        """The text of the revision, where the message is a correction that states an answer; else empty.

        Sets `writing.correction` where the reply is to be a revision. If the text is empty then, the model has to be
        asked for the revision.
        """
        serving = engine.scope.serving(engine, correction.revision.prompt)
        classifier = engine.corrections.classifier(engine)
        if writing.stop.is_set() or not correction.is_one(serving.model, engine.encoder, classifier):
            return ""
        found = self._stated(engine, writing, correction.revision)
        if found or correction.can_be_requested:
            writing.correction = correction
        return found

    def _told(self, engine: Engine, writing: Writing, prompt: Messages, conversation_id: str) -> str:
        """The best sentence with what the person told of themselves, where a small model is asked for it; else empty.

        As for a revision, the model chooses among sentences, or writes one.
        """
        settings = engine.loaded.settings
        if not settings.reads_related_only or engine.config.scope == "always" or not (fact := told_fact(prompt)):
            return ""
        if engine.scope.choose(engine, prompt, conversation_id).taught is not None:
            return ""
        alone = [*(m for m in prompt[:-1] if m["role"] == "system"), prompt[-1]]
        return self._stated(engine, writing, Revision(alone, [("", fact)], settings))

    def of(self, conversation_id: str) -> Writing | None:
        """The reply that is being written in a conversation, or None."""
        return self._running.get(conversation_id)

    def stop(self, conversation_id: str, message_id: str | None = None, *, is_reader_lost: bool = False) -> None:
        """End the reply that is being written in a conversation; with `message_id`, only if it is that message."""
        with self._lock:  # waits for `alone`, so that a reply that is about to begin is stopped too
            writing = self._running.get(conversation_id)
            if writing and message_id in (None, writing.message_id):
                writing.is_reader_lost = is_reader_lost
                writing.stop.set()

    def close(self) -> None:
        """End all replies, and wait until their text so far is stored."""
        with self._lock:
            running = dict(self._running)
        for writing in running.values():
            writing.stop.set()
        for conversation_id, writing in running.items():
            writing.wait()
            with suppress(StoreError):
                self.store_late(conversation_id)

    def store_late(self, conversation_id: str) -> None:
        """Store the end of a reply that could not be stored before. Raises StoreError where that fails again."""
        writing = self._running.get(conversation_id)
        if writing and writing.is_over:
            self._store_end(conversation_id, writing)

    def _store_end(self, conversation_id: str, writing: Writing) -> None:
        with self._lock:
            if self._running.get(conversation_id) is not writing:
                return
            corrected = writing.correction
            try:
                self._store.update_message(
                    writing.message_id,
                    text=writing.text,
                    complete=True,
                    adapter_version=writing.serving.version,
                    ending=writing.ending,
                    corrects_id=corrected.first_id if corrected else None,
                    hint=corrected.hint if corrected else None,
                    written=writing.written,
                )
            except UnknownRecord:
                log.info("conversation %s was deleted while its reply was being written", conversation_id)
            del self._running[conversation_id]


def growing(
    writing: Writing,
    engine: Engine,
    prompt: Messages,
    sampling: Sampling,
    banned: Sequence[list[int]],
    conversation_id: str,
    begun: str = "",
    skips_thought: bool = False,
    as_given: bool = False,
) -> Iterator[str]:
    """Yield the whole text of a reply after each change.

    The model is chosen when the engine starts the reply, because a new adapter may have gone live while it waited.

    Args:
        writing: receives the model that answers and the reason for which the reply ended.
        engine: a copy of the reply's own: the base model, and with it the tokenizer, may be replaced meanwhile.
        prompt: the messages that it answers.
        sampling: how it is decoded.
        banned: sequences of token ids that must not occur.
        conversation_id: whose prefix cache is used.
        begun: the text of a reply that is continued.
        skips_thought: whether a thinking model answers at once. Revisions do: a thought would repeat the hint, which is
            never learned.
        as_given: whether the model reads the prompt as it is. Else an untouched model reads no exchange that it copies,
            and with `reads_related_only` none that has nothing to do with the question.
    """
    chosen = engine.scope.choose(engine, prompt, conversation_id)
    if not begun and (answer := engine.scope.remembered(engine, chosen).answer):
        writing.serving = Serving(chosen.serving.model, FROM_MEMORY)
        text, writing.finish = cut_as_asked(answer, sampling, engine.loaded.tokenizer)
        yield text
        return

    def model() -> CausalModel:
        writing.serving = engine.scope.choose(engine, prompt, conversation_id).serving
        return writing.serving.model

    def finished(finish: Finish) -> None:
        writing.finish = finish

    drawn = sampling if chosen.taught is None else sampling.as_checked  # what was taught is said as it was checked
    settings = replace(drawn.settings(engine, banned, begun), skips_thought=skips_thought)

    def written(messages: Messages) -> Generator[str]:
        yield from engine.batching.stream(
            model, engine.loaded.tokenizer, messages, settings, writing.stop, conversation_id, finished
        )

    if as_given or begun or chosen.taught is not None or engine.config.scope == "always":
        yield from written(chosen.prompt)
    else:
        yield from without_copies(chosen.read(engine.loaded.settings), written)
