"""The decoding engine: a batch of one model, which rows join and leave at any step. Token ids only; no text, no threads.

Chat, revisions, self-play, rollouts and the greedy checks of a round all decode here. After every token, finished rows
leave and others may join (continuous batching: Yu et al., OSDI 2022). Equal prompts are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from spear_core.inference.prefix_cache import Prefix
from spear_core.inference.row_states import Rows, begin
from spear_core.inference.token_choice import Choice, Chooser, choose_all
from spear_core.models.causal_model import CausalModel

REFILL_SHARE = 0.25  # of the batch that must be free before new prompts join, because each joining costs a forward pass


class Finish(StrEnum):
    """Why a reply ended."""

    ENDED = "ended"  # the model generated an end token
    STOP_STRING = "stop_string"  # a stop string was generated; the text is cut before it
    LENGTH = "length"  # the reply reached the longest length allowed
    STOPPED = "stopped"  # the caller stopped it


@dataclass(frozen=True)
class Request:
    """A request for one reply. Raises ValueError for an empty prompt or a reply of no tokens."""

    prompt: Sequence[int]
    max_new_tokens: int
    end_ids: frozenset[int]
    choice: Choice = Choice()
    stop_strings: tuple[str, ...] = ()  # the reply ends with the token that completes one of them; needs `decode`
    decode: Callable[[Sequence[int]], str] | None = None
    on_token: Callable[[int], None] | None = None  # called with each token, in the engine's thread
    is_unwanted: Callable[[], bool] | None = None  # called before each token; True ends the reply as STOPPED
    prefix: Prefix | None = None  # cached keys and values of the beginning of the prompt
    keep_prefix: Callable[[Prefix], None] | None = (
        None  # called at the end with the keys and values of prompt and reply
    )

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not self.prompt:
            raise ValueError("a request needs a prompt, and room for one token at least")
        if self.stop_strings and self.decode is None:
            raise ValueError("stop strings need `decode`")


@dataclass
class Generated:
    """The tokens of a reply, without the end token, and why it ended."""

    tokens: list[int]
    finish: Finish


@dataclass(eq=False)
class Row:
    """A request in progress. `finish` or `failure` is set once it has left the batch."""

    request: Request
    tokens: list[int] = field(default_factory=list)
    finish: Finish | None = None
    failure: BaseException | None = None
    next: int = 0  # the token that is fed to the model next

    def __post_init__(self) -> None:
        self.chooser = Chooser(self.request.choice, self.request.prompt, self.request.end_ids)

    @property
    def result(self) -> Generated:
        """The reply. Raises what failed, and ValueError while it is in progress."""
        if self.failure is not None:
            raise self.failure
        if self.finish is None:
            raise ValueError("the reply is not over yet")
        return Generated(self.tokens, self.finish)

    def take(self, token: int | BaseException) -> bool:
        """Take the next token, or the error in choosing it. Returns whether the reply continues."""
        request = self.request
        try:
            if isinstance(token, BaseException):
                raise token
            if request.is_unwanted is not None and request.is_unwanted():
                self.finish = Finish.STOPPED
            elif token in request.end_ids:
                self.finish = Finish.ENDED
            else:
                self.next = token
                self.tokens.append(token)
                if request.on_token is not None:
                    request.on_token(token)
                if self._said_stop():
                    self.finish = Finish.STOP_STRING
                elif len(self.tokens) >= request.max_new_tokens:
                    self.finish = Finish.LENGTH
        except Exception as error:  # raised by the functions of the request: only this request fails
            self.failure = error
        return self.finish is None and self.failure is None

    def _said_stop(self) -> bool:
        request = self.request
        if not request.stop_strings or request.decode is None:
            return False
        # a stop string has at most as many tokens as bytes
        longest = max(len(s.encode()) for s in request.stop_strings)
        said = request.decode(self.tokens[-longest - 1 :])
        return any(s in said for s in request.stop_strings)


class Decoder:
    """A batch of one model. Not thread-safe."""

    def __init__(self, model: CausalModel) -> None:
        self.model = model
        self.rows: list[Row] = []
        self._states: Rows | None = None

    @torch.inference_mode()
    def join(self, requests: Sequence[Request]) -> list[Row]:
        """Compute the prompts and choose the first tokens. Returns the new rows, some of which may have ended.

        Raises what the model raises. In that case no request has joined, and the other rows are unchanged.
        """
        rows = [Row(request) for request in requests]
        if not rows:
            return rows
        different: dict[tuple[Any, ...], int] = {}
        of_row = [different.setdefault(_computed(request), len(different)) for request in requests]
        firsts = [requests[of_row.index(i)] for i in range(len(different))]
        rooms = [
            max(r.max_new_tokens for r, i in zip(requests, of_row, strict=True) if i == n) for n in different.values()
        ]
        states, logits = begin(self.model, [r.prompt for r in firsts], [r.prefix for r in firsts], rooms)
        if len(different) < len(rows):
            states.keep(of_row)
            logits = logits[of_row]
        stay = _settle(rows, states, logits)
        self.rows += stay
        if stay and self._states is None:
            self._states = states
        elif stay and self._states is not None:
            self._states.join(states)
        return rows

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Generate one token for every row. Returns the rows that ended. Raises what the model raises."""
        if self._states is None:
            return []
        before = self.rows
        logits = self._states.advance([row.next for row in before])
        self.rows = _settle(before, self._states, logits)
        if not self.rows:
            self._states = None
        return [row for row in before if row.finish is not None or row.failure is not None]


def _computed(request: Request) -> tuple[Any, ...]:
    """A key that is equal for requests whose prompts are computed together."""
    return tuple(request.prompt), id(request.prefix)


def _settle(rows: Sequence[Row], states: Rows, logits: Tensor) -> list[Row]:
    """Choose a token for each row from logits (B, V). Removes ended rows from `states` and returns the others."""
    chosen = choose_all(logits, [row.chooser for row in rows], [row.tokens for row in rows])
    stay = []
    for place, (row, token) in enumerate(zip(rows, chosen, strict=True)):
        if row.take(token):
            stay.append(place)
        elif row.request.keep_prefix is not None and row.failure is None:
            prefix = states.prefix(place, [*row.request.prompt, *row.tokens])
            if prefix is not None:
                row.request.keep_prefix(prefix)
    if stay and len(stay) < len(rows):
        states.keep(stay)
    return [rows[place] for place in stay]


def generate(
    model: CausalModel,
    requests: Sequence[Request],
    *,
    batch_size: int = 32,
    priority: Callable[[], None] = lambda: None,
) -> list[Generated]:
    """Generate all replies in this thread.

    Args:
        model: the model of all requests.
        requests: in any order; longer prompts are started first.
        batch_size: the most rows at a time. New prompts take the places of ended replies.
        priority: called before each forward pass; may wait.

    Returns:
        The replies in the order of the requests.

    Raises:
        Exception: what the model or the functions of a request raise.
    """
    decoder, under_way = Decoder(model), dict[int, Row]()
    out: list[Generated | None] = [None] * len(requests)
    # taken from the end, so the longest prompts come first
    waiting = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt), -i))
    while waiting or under_way:
        priority()
        free = batch_size - len(under_way)
        if waiting and (not under_way or free >= max(1, REFILL_SHARE * batch_size)):
            taken = [waiting.pop() for _ in range(min(free, len(waiting)))]
            under_way |= dict(zip(taken, decoder.join([requests[i] for i in taken]), strict=True))
        else:
            decoder.step()
        for i, row in list(under_way.items()):
            if row.finish is not None or row.failure is not None:
                out[i] = row.result
                del under_way[i]
    return [made for made in out if made is not None]
