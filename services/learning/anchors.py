"""Anchors and probes: answers of the model without negative feedback, which training must not change."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import lru_cache

from feedback_store import UnknownRecord
from services.chat.conversation_tree import prompt_up_to
from services.engine import Engine
from services.learning.starter_answers import ANSWER_TOKENS, starter_answers
from services.learning.style_preferences import GrantedPreference, preferences_for, standing_preferences
from spear_core.inference.rollout import answer_all
from spear_core.models.prompts import revision_messages
from spear_core.models.thoughts import answer_of
from spear_core.training.neighbours import cut, question_key
from spear_core.training.probes import READ_TOKENS, Probe, ProbeKind, is_degenerate
from spear_core.training.traces import Encoded, Messages

log = logging.getLogger(__name__)
ENCODINGS_KEPT = 4096  # several times what one round needs, because the past chats change
RECENT_LOOKED_AT = 200
REVISIONS_SEARCHED = 200  # the newest confirmed revisions, in which style preferences are searched for


class HeldAnswers:
    """The anchors and probes of each round, under the style preferences in force (style_preferences.py)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Encoding all of them takes 60 ms of Python at the start of each round, which would delay a reply
        self._plain = lru_cache(maxsize=ENCODINGS_KEPT)(self._encode)
        self._said_in: dict[str, str] = {}  # hint -> id of the revision that it led to
        self._preferred: dict[tuple[tuple[str, ...], str], tuple[list[tuple[str, str | None]], str]] = {}

    def forget(self) -> None:
        """Drop what is held in memory of past chats and hints."""
        self._plain.cache_clear()
        self._said_in, self._preferred = {}, {}

    def style_preferences(self, before_utc: str | None = None) -> list[str]:
        """The hints that are style preferences, oldest first, by the corrections trained or claimed (before a time)."""
        store, base = self._engine.store, self._engine.base
        recent = [
            t
            for status in ("trained", "claimed")
            for t in store.traces(base=base, status=status, side="win", limit=REVISIONS_SEARCHED, newest_first=True)
            if t.source == "confirmed" and (before_utc is None or t.created_at_utc < before_utc)
        ]
        granted: list[GrantedPreference] = []
        for t in sorted(recent, key=lambda t: t.seq):
            # Deleted meanwhile. Not one transaction, because others would wait for hundreds of reads
            with suppress(UnknownRecord):
                if t.subject_id and t.message_id:
                    said, hint = answer_of(store.message(t.subject_id).text), store.message(t.message_id).hint or ""
                    self._said_in[hint.strip()] = t.message_id
                    granted.append(GrantedPreference(t.prompt[-1]["content"], said, hint, t.completion))
        return standing_preferences(granted)

    def said_in(self, style_preferences: Sequence[str]) -> list[str]:
        """Ids of the messages with these hints. The ids are stored, not the words, so that forgetting leaves no copy."""
        return [self._said_in[words] for words in style_preferences]

    def probes(
        self, style_preferences: Sequence[str] = (), before_utc: str | None = None, corrected: Collection[str] = ()
    ) -> list[Probe]:
        """The gate's probes: starter questions and recent replies, none of which is ever trained on.

        Args:
            style_preferences: hints that the expected answers follow.
            before_utc: only replies before this ISO time.
            corrected: questions whose answers are meant to change; no probe asks one of them in other words.
        """
        keys = {question_key(question) for question in corrected} - {""}
        starter = starter_answers(self._engine).probes
        tokens = READ_TOKENS if self._engine.config.anchor_tokens else 0
        found = []
        kinds = self._engine.loaded.settings.prompt_kinds
        for recent, said in ((False, starter), (True, self._recent(before_utc))):
            said = [
                (prompt, answer)
                for prompt, answer in said
                if not is_degenerate(answer) and question_key(prompt[-1]["content"]) not in keys
            ]
            for (prompt, _), example in zip(said, self._encoded(said, style_preferences), strict=True):
                question = prompt[-1]["content"]
                kind = ProbeKind.RECENT if recent else kinds.get(question, ProbeKind.GENERAL)
                found.append(Probe(cut(example, tokens), kind, question))
        return found

    def anchors(
        self,
        seed: int,
        style_preferences: Sequence[str] = (),
        before_utc: str | None = None,
        corrected: Collection[str] = (),
    ) -> list[Encoded]:
        """The anchors of a round, at most `anchor_pool`.

        They are replies of past chats without negative feedback, examples of the base model following a hint, and starter
        answers. The arguments are those of `probes`; `seed` chooses among the past replies.
        """
        engine, starter = self._engine, starter_answers(self._engine)
        probes = set(engine.loaded.settings.probe_prompts)
        pool = engine.config.anchor_pool
        said: list[tuple[Messages, str]] = []
        for asked, reply in engine.store.unobjected_replies(pool // 3, seed, before_utc):
            if asked.text not in probes and not self._is_probe(asked.text):
                said.append((prompt_up_to([asked], asked.id), reply.text))
        # style preferences concern answers, not how hints are followed
        hinted = self._encoded(starter.revisions[: pool // 3], ())
        keys = {question_key(question) for question in corrected} - {""}
        plain = [pair for pair in (*said, *starter.anchors) if question_key(pair[0][-1]["content"]) not in keys]
        whole = [*hinted, *self._encoded(plain[: pool - len(hinted)], style_preferences)]
        return [cut(example, engine.config.anchor_tokens) for example in whole]

    def starter_examples(self) -> list[Encoded]:
        """The starter questions and answers as they are trained on and asked. They hold no words of users."""
        starter = starter_answers(self._engine)
        whole = self._encoded([*starter.anchors, *starter.revisions, *starter.probes], ())
        tokens = self._engine.config.anchor_tokens
        return [*whole, *(cut(e, tokens) for e in whole), *(cut(e, READ_TOKENS) for e in whole)]

    def _recent(self, before_utc: str | None) -> list[tuple[Messages, str]]:
        """Recent replies without negative feedback whose questions are never trained on."""
        if not self._engine.config.recent_probes:
            return []
        said = self._engine.store.unobjected_replies(RECENT_LOOKED_AT, self._engine.seed, before_utc)
        chosen = [(asked, reply) for asked, reply in said if self._is_probe(asked.text)]
        chosen.sort(key=lambda pair: pair[1].created_at_utc, reverse=True)
        return [(prompt_up_to([asked], asked.id), r.text) for asked, r in chosen[: self._engine.config.recent_probes]]

    def _is_probe(self, question: str) -> bool:
        """Whether a question is reserved for the gate: a fixed quarter of all questions is."""
        return bool(self._engine.config.recent_probes) and zlib.crc32(question.encode()) % 4 == 0

    def _encoded(self, said: list[tuple[Messages, str]], style_preferences: Sequence[str]) -> list[Encoded]:
        encoder, settings = self._engine.encoder, self._engine.loaded.settings
        said = [(prompt, answer) for prompt, answer in said if not is_degenerate(answer)]
        if not style_preferences:
            return [self._plain(tuple((m["role"], m["content"]) for m in prompt), answer) for prompt, answer in said]
        out = []
        for (prompt, answer), (attempts, preferred) in zip(
            said, self._in_form(said, tuple(style_preferences)), strict=True
        ):
            hinted = revision_messages(list(prompt), attempts, settings)
            out.append(encoder.hinted(prompt, hinted, preferred) if attempts else encoder.plain(prompt, answer))
        return out

    def _encode(self, prompt: tuple[tuple[str, str], ...], answer: str) -> Encoded:
        self._engine.priority.step_aside()  # there are hundreds of them, a millisecond of Python each
        return self._engine.encoder.plain([{"role": role, "content": content} for role, content in prompt], answer)

    def _in_form(
        self, said: list[tuple[Messages, str]], style_preferences: tuple[str, ...]
    ) -> list[tuple[list[tuple[str, str | None]], str]]:
        """`preferences_for`, computed once for each answer and set of preferences."""
        keys = [(style_preferences, json.dumps([list(prompt), answer])) for prompt, answer in said]
        new = {key: pair for key, pair in zip(keys, said, strict=True) if key not in self._preferred}
        if new:
            self._preferred = {
                key: value for key, value in self._preferred.items() if key[0] == style_preferences
            }  # drop those of earlier preferences
            log.info(
                "asking the base model for %d answers under %d style preferences", len(new), len(style_preferences)
            )
            self._preferred.update(
                zip(new, preferences_for(list(new.values()), style_preferences, self._revise), strict=True)
            )
        return [self._preferred[key] for key in keys]

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
