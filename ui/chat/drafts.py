"""Drafts in the boxes under the conversation: which box is open, and what was typed and not sent yet. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

HINT, EDIT = "hint", "edit"


@dataclass(frozen=True)
class Drafts:
    """Kept in the page's state. Opening, closing and leaving a box never loses its words."""

    box: str = ""  # the box that is open: HINT, EDIT or none
    target: str = ""  # id of the reply that the open box is about
    typed: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (box, reply) -> words not sent yet
    rewritten: str | None = None  # id of the earlier question that the composer's text will replace
    composer: str = ""  # what the composer held before that question was put into it
    is_new: bool = False  # the box was opened just now: its field is to show its words

    def saved(self, hint: str | None, edited: str | None) -> Drafts:
        """With the words that the open box holds now."""
        if not self.box:
            return replace(self, is_new=False)
        words = (hint if self.box == HINT else edited) or ""
        return replace(self, typed={**self.typed, (self.box, self.target): words}, is_new=False)

    def opened(self, box: str, target: str) -> Drafts:
        return replace(self, box=box, target=target, is_new=(box, target) != (self.box, self.target))

    def reopened(self) -> Drafts:
        return replace(self, is_new=True)

    def closed(self) -> Drafts:
        return replace(self, box="", target="", is_new=False)

    def sent(self, box: str, target: str) -> Drafts:
        """Closed, and without the words that went on their way."""
        return replace(self.closed(), typed={key: text for key, text in self.typed.items() if key != (box, target)})

    def words(self, default: str = "") -> str:
        """What the open box shows: the earlier draft about the same reply, or `default`."""
        return self.typed.get((self.box, self.target)) or default

    def rewriting(self, question_id: str, composer: str) -> Drafts:
        """The composer changes an earlier question; what it held is kept aside."""
        kept = self.composer if self.rewritten else composer
        return replace(self, rewritten=question_id, composer=kept)

    def rewrote(self) -> Drafts:
        return replace(self, rewritten=None, composer="")
