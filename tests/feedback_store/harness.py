"""Short ways to fill a store, the way the services do."""

from __future__ import annotations

from dataclasses import dataclass

from feedback_store import Adapter, Message, NewAdapter, NewTrace, RoundFigures, Store, Trace

BASE = "base-a"


@dataclass
class Talk:
    """One conversation of a question and a reply, in a store."""

    store: Store
    conversation_id: str
    question: Message
    reply: Message

    def trace(
        self, side: str = "win", *, base: str = BASE, confidence: float = 1.0, completion: str = "Paris"
    ) -> NewTrace:
        return NewTrace(
            side=side,
            conversation_id=self.conversation_id,
            message_id=self.reply.id,
            subject_id=self.reply.id,
            prompt=[{"role": "user", "content": self.question.text}],
            completion=completion,
            confidence=confidence,
            source="confirmed",
            base=base,
        )

    def add(self, *sides: str, base: str = BASE, confidence: float = 1.0, completion: str = "Paris") -> list[Trace]:
        if "win" in sides:
            self.store.set_vote(self.reply.id, 1)
        return self.store.add_traces(
            [self.trace(side, base=base, confidence=confidence, completion=completion) for side in sides]
        )


class StoreHarness:
    """Fills a store the way the services do."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def talk(self, question: str = "Capital of France?", *, learn: bool = True, version: int = 0) -> Talk:
        conversation = self.store.create_conversation(learn=learn)
        asked = self.store.add_message(conversation.id, "user", question)
        reply = self.store.add_message(
            conversation.id, "assistant", "Lyon", parent_id=asked.id, adapter_version=version
        )
        return Talk(self.store, conversation.id, asked, reply)

    def adapter(self, version: int, parent: int, base: str = BASE) -> NewAdapter:
        return NewAdapter(base, version, parent, f"adapters/v{version:04d}", "0" * 64, RoundFigures(anchor_kl=0.1))

    def promoted(self, base: str = BASE) -> Adapter:
        """Claim what is pending and promote it on top of the active adapter."""
        parent = self.store.active_version(base)
        claim = self.store.claim_round(base, parent)
        assert claim is not None
        new = self.adapter(self.store.next_version(base), parent, base)
        figures = RoundFigures(win_loss=0.5)
        return self.store.promote(claim[0].id, new, figures=figures, verdict="ok", proof=None, replayed=0)

    def statuses(self) -> list[str]:
        return [trace.status for trace in self.store.traces()]
