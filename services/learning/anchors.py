"""What must not change: the model's own unobjected answers, as KL anchors and as the gate's probes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

from feedback_store import UnknownRecord
from services.chat.conversation_tree import prompt_up_to
from services.engine import Engine
from services.learning.starter_answers import ANSWER_TOKENS, starter_answers
from services.learning.style_preferences import GrantedPreference, preferences_for, standing_preferences
from spear_core.inference.rollout import answer_all
from spear_core.models.prompts import revision_messages
from spear_core.training.gate import is_degenerate
from spear_core.training.traces import Encoded, Messages

log = logging.getLogger(__name__)
ENCODINGS_KEPT = 4096  # several times what one round holds: past chats come and go
WISHES_LOOKED_FOR = 200  # the latest confirmed revisions in which wishes are looked for


class HeldAnswers:
    """The anchors and probes of each round, under the wishes that stand by then (services/learning/style_preferences.py)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # encoding all of them takes 60 ms of Python at the beginning of every round, which a reply under way would feel
        self._plain = lru_cache(maxsize=ENCODINGS_KEPT)(self._encode)
        self._said_in: dict[str, str] = {}  # hint -> the message that it led to, whose user's words it is
        self._wished: dict[tuple[tuple[str, ...], str], tuple[list[tuple[str, str | None]], str]] = {}

    def style_preferences(self, before_utc: str | None = None) -> list[str]:
        """Of what was learned or is about to be, oldest first; before a time, where one is given."""
        store, base = self._engine.store, self._engine.base
        recent = [
            t
            for status in ("trained", "claimed")
            for t in store.traces(base=base, status=status, side="win", limit=WISHES_LOOKED_FOR, newest_first=True)
            if t.source == "confirmed" and (before_utc is None or t.created_at_utc < before_utc)
        ]
        granted: list[GrantedPreference] = []
        for t in sorted(recent, key=lambda t: t.created_at_utc):
            # deleted meanwhile; not all in one transaction: everybody would wait for hundreds of reads
            with suppress(UnknownRecord):
                if t.subject_id and t.message_id:
                    said, hint = store.message(t.subject_id).text, store.message(t.message_id).hint or ""
                    self._said_in[hint.strip()] = t.message_id
                    granted.append(GrantedPreference(t.prompt[-1]["content"], said, hint, t.completion))
        return standing_preferences(granted)

    def said_in(self, style_preferences: Sequence[str]) -> list[str]:
        """The messages in which these stand: what is stored of them, so that forgetting one leaves no copy."""
        return [self._said_in[words] for words in style_preferences]

    def probes(self, style_preferences: Sequence[str] = ()) -> list[Encoded]:
        """The gate's probes: never trained on, neither as anchors nor as replay."""
        return self._encoded(starter_answers(self._engine).probes, style_preferences)

    def anchors(self, seed: int, style_preferences: Sequence[str] = (), before_utc: str | None = None) -> list[Encoded]:
        """Up to `anchor_pool`: what the model said in past chats and nobody objected to (before a time, where one is
        given), how the base model follows hints, and the starter answers."""
        engine, starter = self._engine, starter_answers(self._engine)
        probes = set(engine.loaded.settings.probe_prompts)
        pool = engine.config.anchor_pool
        said: list[tuple[Messages, str]] = []
        for asked, reply in engine.store.unobjected_replies(pool // 3, seed, before_utc):
            if asked.text not in probes:
                said.append((prompt_up_to([asked], asked.id), reply.text))
        # a wish about form is for answers; following hints stays as it is
        hinted = self._encoded(starter.revisions[: pool // 3], ())
        return [*hinted, *self._encoded([*said, *starter.anchors][: pool - len(hinted)], style_preferences)]

    def _encoded(self, said: list[tuple[Messages, str]], style_preferences: Sequence[str]) -> list[Encoded]:
        encoder, settings = self._engine.encoder, self._engine.loaded.settings
        said = [(prompt, answer) for prompt, answer in said if not is_degenerate(answer)]
        if not style_preferences:
            return [self._plain(tuple((m["role"], m["content"]) for m in prompt), answer) for prompt, answer in said]
        out = []
        for (prompt, answer), (attempts, wished) in zip(
            said, self._in_form(said, tuple(style_preferences)), strict=True
        ):
            hinted = revision_messages(list(prompt), attempts, settings)
            out.append(encoder.hinted(prompt, hinted, wished) if attempts else encoder.plain(prompt, answer))
        return out

    def _encode(self, prompt: tuple[tuple[str, str], ...], answer: str) -> Encoded:
        return self._engine.encoder.plain([{"role": role, "content": content} for role, content in prompt], answer)

    def _in_form(
        self, said: list[tuple[Messages, str]], style_preferences: tuple[str, ...]
    ) -> list[tuple[list[tuple[str, str | None]], str]]:
        """`wished_for`, asked of the base model once for each answer and wish."""
        keys = [(style_preferences, json.dumps([list(prompt), answer])) for prompt, answer in said]
        new = {key: pair for key, pair in zip(keys, said, strict=True) if key not in self._wished}
        if new:
            self._wished = {
                key: value for key, value in self._wished.items() if key[0] == style_preferences
            }  # older wishes go
            log.info("asking the base model for %d answers under %d standing wishes", len(new), len(style_preferences))
            self._wished.update(
                zip(new, preferences_for(list(new.values()), style_preferences, self._revise), strict=True)
            )
        return [self._wished[key] for key in keys]

    def _revise(self, cases: list[tuple[Messages, list[tuple[str, str | None]]]]) -> list[str]:
        engine = self._engine
        return answer_all(
            engine.shared_models.base,
            engine.loaded.tokenizer,
            [revision_messages(list(prompt), tried, engine.loaded.settings) for prompt, tried in cases],
            context_tokens=engine.loaded.context_tokens,
            max_new_tokens=min(ANSWER_TOKENS, engine.max_new_tokens),
            priority=engine.priority.give_way,
        )
