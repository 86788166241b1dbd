"""Corrections made by talking: a message ("no, it's Oslo") that says what was wrong with the reply before it.

The reply to such a message is a revision of the reply that it corrects. This file finds what a message may correct.
`Replies` asks the model and writes the reply, `FeedbackService` stores the traces once the person agrees. No storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feedback_store import Message
from services.chat.conversation_tree import prompt_up_to, refused_replies, standing_reply
from services.chat.revisions import Revision
from spear_core.inference.correction_classifier import CorrectionClassifier
from spear_core.inference.corrections import FollowUp, Sign, cue, is_correction, may_state
from spear_core.inference.revision_requests import stated
from spear_core.models.causal_model import CausalModel
from spear_core.models.settings import ModelSettings
from spear_core.models.thoughts import answer_of
from spear_core.training.traces import Encoder


@dataclass(frozen=True)
class Correction:
    """A message that may correct the last reply."""

    first_id: str  # the first reply that it is about
    follow_up: FollowUp
    revision: Revision

    @property
    def hint(self) -> str:
        """The words of the message, which are the hint for the revision."""
        return self.follow_up.message

    @property
    def can_be_requested(self) -> bool:
        """Whether the hint states an answer and this model writes revisions on request only."""
        says = stated(self.revision.attempts, self.follow_up.question)
        return self.revision.settings.revise_by_request_only and says is not None

    def is_one(self, model: CausalModel, encoder: Encoder, classifier: CorrectionClassifier | None = None) -> bool:
        """Whether the message is a correction: by the classifier, or by its words, and the model where they leave it open."""
        if classifier is not None:
            return classifier.is_correction(self.follow_up, cue(self.follow_up))
        return is_correction(model, encoder, self.follow_up)


def possible_correction(
    messages: Sequence[Message],
    path: Sequence[Message],
    text: str,
    settings: ModelSettings,
    *,
    has_classifier: bool = False,
) -> Correction | None:
    """What `text` would correct as the next message after `path`; None where it cannot be a correction.

    A correction of a correction is about the same first reply. Replies edited by the person are not corrected.

    Args:
        messages: all of the conversation.
        path: the questions and replies of the branch that is shown.
        text: the new message.
        settings: of the model, for the request for a revision.
        has_classifier: whether a classifier decides: then its words need not look like a correction.
    """
    by_id = {m.id: m for m in messages}
    last = path[-1] if path else None
    if last is None or last.role != "assistant":
        return None
    first = by_id.get(last.corrects_id or last.id)
    asked = by_id.get(first.parent_id or "") if first else None
    standing = standing_reply(messages, last.id)
    if first is None or asked is None or standing is None or standing.kind == "edit" or not answer_of(standing.text):
        return None
    follow_up = FollowUp(asked.text, answer_of(standing.text), text)
    if not (may_state(follow_up) if has_classifier else cue(follow_up) is not Sign.NONE):
        return None
    history = refused_replies(messages, path, first, text)
    return Correction(first.id, follow_up, Revision(prompt_up_to(messages, asked.id), history, settings))
