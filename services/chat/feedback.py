"""Votes, hints, verdicts and edits, and the traces made from them (labels.py). No generation, no training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from feedback_store import Message
from feedback_store.records import Source
from services.chat.conversation_tree import is_right_answer, prompt_up_to, subject_id
from services.chat.preferences import Preferences
from services.engine import Engine
from services.learning import labels
from services.learning.contradictions import STANDING
from services.settings import MAX_MESSAGE_CHARACTERS
from services.views import MessageView
from spear_core.errors import SpearError
from spear_core.models.thoughts import answer_of
from spear_core.training.judge import normalised


class FeedbackService:
    """Stores what people say about replies. Each method is one transaction, stored before it returns.

    Methods raise UnknownRecord for an unknown message, and SpearError, with one sentence, for a message to which they do
    not apply. `on_new_traces` is called when there may be something to learn, or something less.
    """

    def __init__(self, engine: Engine, on_new_traces: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._store = engine.store
        self.preferences = Preferences(engine)
        self.on_new_traces = on_new_traces

    def like(self, message_id: str) -> None:
        """Store a thumbs-up: the reply becomes a confirmed win.

        On a revision it means *Better*, on the reply to a correction made by talking "learn this". The person's own text is
        learned anyway; where that was withdrawn, it is learned again.
        """
        message = self._reply(message_id)
        if message.kind == "revision" or message.corrects_id:
            self.better(message_id)
            return
        if message.kind == "edit":
            self._learn_edit(message)
            return
        with self._together():
            self._store.set_vote(message.id, 1)
            self._refuse_revisions(message.id)
            self._set_aside_corrections(message.id, "still_wrong")
            self._store.replace_traces(message.id, labels.liked(self._engine.base, self._prompt(message), message))
        self.on_new_traces()

    def dislike(self, message_id: str) -> None:
        """Store a thumbs-down without a hint. On a revision it means *Still wrong*, and so it does on the reply to a correction
        made by talking: the complaint is about the reply that was corrected.
        """
        message = self._reply(message_id)
        if message.kind == "revision":
            self.still_wrong(message_id)
            return
        first = self._first(message)
        with self._together():
            if message.corrects_id:
                self._withdraw_correction(message, "still_wrong")
            if message.kind == "edit":
                self._store.set_verdict(message.id, "still_wrong")
            self._complain(first, message.id, "")
        self.on_new_traces()

    def clear_vote(self, message_id: str) -> None:
        """Withdraw all feedback about a reply: traces that were not trained yet never will be.

        On a revision only the verdict is withdrawn: it may be judged again, and the reply stays disliked. On the reply to
        a correction made by talking, the feedback about the corrected reply is withdrawn too. What was confirmed as
        another answer to the same question stays.
        """
        message = self._store.message(message_id)
        first = self._first(message)
        if message.kind == "revision":
            with self._together():
                self._store.set_verdict(message.id, None)
                self._unfixed(first, besides=message.id)
            self.on_new_traces()
            return
        with self._together():
            if message.corrects_id:
                self._store.set_verdict(message.id, None)
                if self._is_settled(first, besides=message.id):
                    return
            self._store.set_vote(first.id, 0)
            for revision in self._store.revisions_of(first.id):
                if revision.verdict is not None:
                    self._store.set_verdict(revision.id, None)
            self._set_aside_corrections(first.id)
            self._store.withdraw_traces(first.id)
        self.on_new_traces()

    def complain(self, first_id: str, about_id: str, hint: str) -> None:
        """Store a thumbs-down on a reply or on a revision of it, with its hint; an empty hint is none."""
        first = self._store.message(first_id)
        with self._together():
            self._complain(first, about_id, hint)
        self.on_new_traces()

    def _complain(self, first: Message, about_id: str, hint: str) -> None:
        """Inside a transaction."""
        source: Source = "unfixed" if hint else "no_hint"
        self._store.set_vote(first.id, -1)
        if hint:
            self._store.add_hint(about_id, hint)
        self._set_aside_corrections(first.id)
        self._store.replace_traces(first.id, labels.disliked(self._engine.base, self._prompt(first), first, source))

    def better(self, message_id: str) -> None:
        """Confirm a revision: it becomes a win and the first reply a losing trace, both with confidence 1.

        On the reply to a correction made by talking it means "learn this".
        """
        if (message := self._reply(message_id)).corrects_id:
            self._learn_correction(message)
            return
        revision = self._revision(message_id)
        first = self._first(revision)
        if not revision.text.strip():
            raise SpearError("An empty revision cannot be confirmed; write the right answer yourself.")
        traces = labels.replaced(self._engine.base, self._prompt(first), first, revision, "confirmed")
        with self._together():
            self._refuse_revisions(first.id)
            self._store.set_verdict(revision.id, "better")
            self._store.set_vote(first.id, -1)
            self._set_aside_corrections(first.id, "still_wrong")
            self._store.replace_traces(first.id, traces)
        self.on_new_traces()

    def decline(self, message_id: str) -> None:
        """Decline to learn a correction made by talking: it makes no traces."""
        message = self._reply(message_id)
        if not message.corrects_id:
            raise SpearError("Only a reply to a correction can be kept from being learned.")
        with self._together():
            self._withdraw_correction(message, "declined")
        self.on_new_traces()

    def corrected(self, message_id: str) -> None:
        """Note that a reply was stored. If it answers a correction, earlier open ones of the same reply are closed.

        It is learned at once where the user chose that corrections are learned without asking.
        """
        message = self._store.message(message_id)
        if not message.corrects_id:
            return
        with self._together():
            for earlier in self._store.corrections_of(message.corrects_id):
                if earlier.id != message.id and earlier.verdict is None:
                    self._store.set_verdict(earlier.id, "still_wrong")
        if self.preferences.learns_corrections and not message.is_cut and message.text.strip():
            self._learn_correction(message)

    def _learn_correction(self, message: Message) -> None:
        if message.is_cut or not message.text.strip():
            raise SpearError("A reply that was cut off cannot be learned; continue it first.")
        assert message.corrects_id is not None
        first = self._store.message(message.corrects_id)
        traces = labels.replaced(self._engine.base, self._prompt(first), first, message, "confirmed")
        with self._together():
            self._refuse_revisions(first.id, ("better", None))
            self._set_aside_corrections(first.id, "still_wrong", besides=message.id)
            self._store.set_verdict(message.id, "better")
            self._store.set_vote(first.id, -1)
            self._store.replace_traces(first.id, traces)
        self.on_new_traces()

    def _withdraw_correction(self, message: Message, verdict: str | None) -> None:
        """Set another verdict than "learn this", and withdraw the traces of an earlier "learn this". Inside a transaction."""
        assert message.corrects_id is not None
        if message.verdict == "better":
            self._store.set_vote(message.corrects_id, 0)
            self._store.withdraw_traces(message.corrects_id)
        self._store.set_verdict(message.id, verdict)

    def _set_aside_corrections(self, first_id: str, verdict: str | None = None, besides: str = "") -> None:
        """Reopen confirmed corrections by talking, because of newer feedback, or refuse them. Inside a transaction.

        Those that wait for a verdict are refused too: where another answer was confirmed there is nothing left to ask.
        """
        set_aside = ("better", None) if verdict else ("better",)
        for correction in self._store.corrections_of(first_id):
            if correction.id != besides and correction.verdict in set_aside:
                self._store.set_verdict(correction.id, verdict)

    def _refuse_revisions(self, first_id: str, verdicts: tuple[str | None, ...] = ("better",)) -> None:
        """Refuse the revisions of a reply with these verdicts and the person's own texts for it, because another answer was
        confirmed. Inside a transaction.
        """
        for other in self._store.revisions_of(first_id):
            if other.verdict in (verdicts if other.kind == "revision" else (None,)):
                self._store.set_verdict(other.id, "still_wrong")

    def _unfixed(self, first: Message, besides: str) -> None:
        """Count a reply as rejected without a better answer, unless another message than `besides` is one. In a transaction."""
        if not self._is_settled(first, besides):
            self._set_aside_corrections(first.id)
            traces = labels.disliked(self._engine.base, self._prompt(first), first, "unfixed")
            self._store.replace_traces(first.id, traces)

    def still_wrong(self, message_id: str) -> bool:
        """Refuse a revision. Returns whether another hint may be given."""
        revision = self._revision(message_id)
        first = self._first(revision)
        with self._together():
            self._store.set_verdict(revision.id, "still_wrong")
            self._store.set_vote(first.id, -1)
            self._unfixed(first, besides=revision.id)
        self.on_new_traces()
        return self.tries_left(first.id) > 0

    def tries_left(self, message_id: str) -> int:
        """How many more revisions of a reply are allowed."""
        first = self._first(self._store.message(message_id))
        tried = sum(m.kind == "revision" for m in self._store.revisions_of(first.id))
        return max(0, self._engine.config.num_revisions - tried)

    def continued(self, message_id: str) -> None:
        """Make the traces of earlier feedback on a reply that was cut off and has now been continued to its end."""
        message = self._store.message(message_id)
        if message.is_cut or message.role != "assistant":
            return
        if message.kind == "revision" and message.verdict == "better":
            self.better(message.id)
        elif message.kind == "message" and self._store.vote(message.id) > 0:
            self.like(message.id)

    def edit(self, message_id: str, text: str) -> MessageView:
        """Store a reply as the person rewrote it: their text is the win. Returns the new message.

        Thoughts are removed from the text, because only the model writes them. A revision that waits for a verdict or was
        confirmed becomes *Better* where the person wrote the same, else *Still wrong*.
        """
        text = answer_of(text.strip())
        if not text:
            raise SpearError("The edited reply is empty; write what the model should have said.")
        if len(text) > MAX_MESSAGE_CHARACTERS:
            raise SpearError(f"The edited reply is too long; {MAX_MESSAGE_CHARACTERS:,} characters are allowed.")
        first = self._first(self._store.message(message_id))
        made = self._store.revisions_of(first.id)
        unrefused = [m for m in made if m.kind == "revision" and m.verdict != "still_wrong"]
        with self._together():
            for revision in unrefused:
                is_same = normalised(revision.text) == normalised(text)
                self._store.set_verdict(revision.id, "better" if is_same else "still_wrong")
            edited = self._store.add_message(
                first.conversation_id, "assistant", text, kind="edit", parent_id=first.parent_id, revises_id=first.id
            )
            self._replace_by_edit(first, edited)
        self.on_new_traces()
        return MessageView(edited.id, edited.conversation_id, edited.role, edited.kind, edited.text, revises=first.id)

    def _learn_edit(self, edited: Message) -> None:
        first = self._first(edited)
        stands = any(
            t.message_id == edited.id and t.status in STANDING
            for t in self._store.traces(subject_id=first.id, side="win")
        )
        if not stands:
            with self._together():
                self._refuse_revisions(first.id)
                self._store.set_verdict(edited.id, None)
                self._replace_by_edit(first, edited)
            self.on_new_traces()

    def _replace_by_edit(self, first: Message, edited: Message) -> None:
        """Inside a transaction."""
        self._store.set_vote(first.id, -1)
        self._set_aside_corrections(first.id, "still_wrong")
        traces = labels.replaced(self._engine.base, self._prompt(first), first, edited, "edited")
        self._store.replace_traces(first.id, traces)

    # -- looking up and storing ------------------------------------------------------------------------------

    @contextmanager
    def _together(self) -> Iterator[None]:
        """One transaction, during which training waits."""
        with self._engine.priority.foreground(brief=True), self._store.transaction():
            yield

    def _reply(self, message_id: str) -> Message:
        message = self._store.message(message_id)
        if message.role != "assistant" or not message.complete:
            raise SpearError("Only a finished reply of the model can be voted on.")
        return message

    def _revision(self, message_id: str) -> Message:
        message = self._reply(message_id)
        if message.kind != "revision":
            raise SpearError("Only a revision can be called better or still wrong.")
        return message

    def _first(self, message: Message) -> Message:
        if message.role != "assistant":
            raise SpearError("Only a reply of the model can be judged.")
        return self._store.message(subject_id(message))

    def _is_settled(self, first: Message, besides: str) -> bool:
        """Whether a right answer to a reply's question is known from another message than `besides`."""
        about = [*self._store.revisions_of(first.id), *self._store.corrections_of(first.id)]
        return any(m.id != besides and is_right_answer(m) for m in about)

    def _prompt(self, first: Message) -> labels.Prompt:
        if first.parent_id is None:
            raise SpearError("The question of this reply was deleted, so nothing can be learned from it.")
        return self._engine.as_trained(prompt_up_to(self._store.messages(first.conversation_id), first.parent_id))
