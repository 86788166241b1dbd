"""Neighbour questions and other wordings of corrections, made by the base model and stored with them. No training."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from feedback_store import Trace, UnknownRecord
from services.engine import Engine
from services.learning.labels import PRAISE
from spear_core.inference.generate import ReplySettings
from spear_core.inference.generation import Finish
from spear_core.inference.rollout import answer_all, sample_replies
from spear_core.models.thoughts import answer_of
from spear_core.training.neighbours import (
    Neighbour,
    Neighbours,
    content_words,
    gives,
    neighbour_questions,
    split,
    telling_words,
    words_of,
)
from spear_core.training.probes import READ_TOKENS, is_degenerate
from spear_core.training.traces import Messages
from spear_core.training.wordings import other_wordings

log = logging.getLogger(__name__)
WORDED_TOKENS = 32  # longest answer to another wording that is kept
WITH_FACT = "Question: {question}\nFact: {fact}\nAnswer the question with the fact."
REMEMBERED = 64  # questions whose neighbours are held in memory until their correction is confirmed


class NeighbourService:
    """Makes and reads neighbours. `prepare` may be called from any thread, `of` only from the one that trains."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self._worded: OrderedDict[tuple[str, str], list[dict[str, Any]]] = OrderedDict()
        self._making = threading.Lock()

    def prepare(self, prompt: Messages, answer: str) -> list[str]:
        """Make the neighbours and wordings of a question before its correction is confirmed.

        Returns the neighbour questions where they are new, none where they were made before.

        Args:
            prompt: the messages up to the question.
            answer: the answer that may be confirmed, or empty while there is none.
        """
        if not self._engine.config.neighbours:
            return []
        is_known = _key(prompt) in self._made
        made = self._make(prompt)
        if answer:
            self._word(prompt[-1]["content"], answer_of(answer))
        return [] if is_known else [neighbour["question"] for neighbour in made]

    def of(self, wins: Sequence[Trace], older: Sequence[Trace]) -> dict[str, Neighbours]:
        """Neighbours by trace id: those of `wins` are made where missing, those of `older` only read from the store."""
        config, store = self._engine.config, self._engine.store
        if not config.neighbours:
            return {}
        kept = store.kept_neighbours([t.id for t in (*wins, *older)])
        for trace in wins:
            if trace.id not in kept and trace.side == "win" and trace.source not in PRAISE:
                kept[trace.id] = [
                    *self._make(trace.prompt),
                    *self._word(trace.prompt[-1]["content"], answer_of(trace.completion)),
                ]
                try:
                    store.keep_neighbours(trace.id, kept[trace.id])
                except UnknownRecord:  # forgotten meanwhile; the round finds its trace withdrawn
                    log.info("a correction was forgotten while its neighbours were made")
        prompts = {t.id: t.prompt for t in (*wins, *older)}
        return {trace_id: self._view(prompts[trace_id], made) for trace_id, made in kept.items() if made}

    def forget(self) -> None:
        """Drop what is held in memory. What is stored is deleted with its traces."""
        with self._making:
            self._made.clear()
            self._worded.clear()

    def _view(self, prompt: Messages, made: Sequence[dict[str, Any]]) -> Neighbours:
        history = list(prompt[:-1])

        def those(kind: str) -> list[Neighbour]:
            return [Neighbour([*history, {"role": "user", "content": m[kind]}], m["answer"]) for m in made if kind in m]

        config = self._engine.config
        if config.neighbours_a_step or config.earlier_neighbours_a_step:
            parts = split(those("question"), config.neighbour_probes)
        else:  # none is trained on
            parts = Neighbours(probes=tuple(those("question")[: config.neighbour_probes]))
        return replace(parts, wordings=tuple(those("wording")))

    def _word(self, question: str, answer: str) -> list[dict[str, Any]]:
        """Other wordings of the question, with the base model's answers when it is told the correction.

        Only complete answers that give the taught answer and add nothing are kept. They are the model's own sentences, so
        training on them changes it least.
        """
        with self._making:
            if (question, answer) not in self._worded:
                self._worded[question, answer] = self._answered(question, answer)
                while len(self._worded) > REMEMBERED:
                    self._worded.popitem(last=False)
            return self._worded[question, answer]

    def _answered(self, question: str, answer: str) -> list[dict[str, Any]]:
        engine = self._engine
        texts = other_wordings(question, engine.config.wordings)
        asked = [[{"role": "user", "content": WITH_FACT.format(question=text, fact=answer)}] for text in texts]
        said = sample_replies(
            engine.shared_models.base,
            engine.loaded.tokenizer,
            asked,
            ReplySettings(engine.loaded.context_tokens, WORDED_TOKENS, skips_thought=True),
            priority=engine.priority.give_way,
        )
        telling = telling_words(answer, question)
        known = set(content_words(f"{question} {answer}"))
        return [
            {"wording": text, "answer": reply.text}
            for text, (reply, *_) in zip(texts, said, strict=True)
            if reply.finish == Finish.ENDED
            and gives(reply.text, telling)
            and set(content_words(reply.text)) <= known  # small models often add claims
            and all(words_of(reply.text).count(word) <= 1 for word in telling)
        ]

    def _make(self, prompt: Messages) -> list[dict[str, Any]]:
        key = _key(prompt)
        with self._making:
            if key not in self._made:
                engine, started = self._engine, time.monotonic()
                base, loaded = engine.shared_models.base, engine.loaded
                questions = neighbour_questions(
                    base,
                    loaded.tokenizer,
                    prompt,
                    context_tokens=loaded.context_tokens,
                    most=engine.config.neighbours,
                    pad_id=engine.pad_id,
                    pause=engine.priority.give_way,
                )
                answers = answer_all(
                    base,
                    loaded.tokenizer,
                    questions,
                    context_tokens=loaded.context_tokens,
                    max_new_tokens=READ_TOKENS,
                    priority=engine.priority.give_way,
                )
                self._made[key] = [
                    {"question": q[-1]["content"], "answer": answer}
                    for q, answer in zip(questions, answers, strict=True)
                    if not is_degenerate(answer)
                ]
                log.info("%d neighbours made in %.1f s", len(self._made[key]), time.monotonic() - started)
                while len(self._made) > REMEMBERED:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]


def _key(prompt: Messages) -> str:
    return json.dumps(list(prompt))
