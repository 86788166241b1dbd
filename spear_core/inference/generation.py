"""The decoding engine: rows of one model that join and leave at any step. Tokens in, tokens out; no text, no threads.

Chat, revisions, self-play, rollouts and the greedy check of a round all decode here. After every token, rows that ended
leave and others may join (continuous batching: Yu et al., OSDI 2022). Prompts that are equal are computed once.
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

REFILL_SHARE = 0.25  # of the batch that must be free before new prompts are taken in: each time costs a forward


class Finish(StrEnum):
    """Why a reply is over."""

    ENDED = "ended"  # the model gave an end token
    STOP_STRING = "stop_string"  # what it said held a stop string: the text is cut off before it
    LENGTH = "length"  # as long as it may be: the text is cut off
    STOPPED = "stopped"  # nobody wants it any more


@dataclass(frozen=True)
class Request:
    """One reply that is wanted."""

    prompt: Sequence[int]
    max_new_tokens: int
    end_ids: frozenset[int]
    choice: Choice = Choice()
    stop_strings: tuple[str, ...] = ()  # the reply ends with the token that completes one of them; needs `decode`
    decode: Callable[[Sequence[int]], str] | None = None
    on_token: Callable[[int], None] | None = None  # called with each token of the reply, in the engine's thread
    is_unwanted: Callable[[], bool] | None = None  # asked before each token; True ends the reply as STOPPED
    prefix: Prefix | None = None  # what the model has computed of the prompt's beginning already
    keep_prefix: Callable[[Prefix], None] | None = None  # gets what was computed of prompt and reply, at its end

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not self.prompt:
            raise ValueError("a request needs a prompt, and room for one token at least")
        if self.stop_strings and self.decode is None:
            raise ValueError("stop strings need `decode`")


@dataclass
class Generated:
    """A reply's tokens, without the end token, and why it is over."""

    tokens: list[int]
    finish: Finish


@dataclass(eq=False)
class Row:
    """A request under way. `finish` or `failure` is set when it has left."""

    request: Request
    tokens: list[int] = field(default_factory=list)
    finish: Finish | None = None
    failure: BaseException | None = None
    next: int = 0  # the token that goes in next

    def __post_init__(self) -> None:
        self.chooser = Chooser(self.request.choice, self.request.prompt, self.request.end_ids)

    @property
    def result(self) -> Generated:
        """Raises what went wrong."""
        if self.failure is not None:
            raise self.failure
        if self.finish is None:
            raise ValueError("the reply is not over yet")
        return Generated(self.tokens, self.finish)

    def take(self, token: int | BaseException) -> bool:
        """The next token, or what went wrong in choosing it. True where the reply goes on."""
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
        except Exception as error:  # the request's own functions: it alone fails
            self.failure = error
        return self.finish is None and self.failure is None

    def _said_stop(self) -> bool:
        request = self.request
        if not request.stop_strings or request.decode is None:
            return False
        # a stop string has no more tokens than bytes, and the newest token may only complete it
        longest = max(len(s.encode()) for s in request.stop_strings)
        said = request.decode(self.tokens[-longest - 1 :])
        return any(s in said for s in request.stop_strings)


class Decoder:
    """Rows of one model. Not thread-safe: one thread drives it."""

    def __init__(self, model: CausalModel) -> None:
        self.model = model
        self.rows: list[Row] = []
        self._states: Rows | None = None

    @torch.inference_mode()
    def join(self, requests: Sequence[Request]) -> list[Row]:
        """Compute the prompts and choose the first tokens; the new rows, of which some may be over already.

        Raises what the model raises; then none of the requests has joined, and the rows under way are as they were.
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
        """One token for every row; those that are over now and have left. Raises what the model raises."""
        if self._states is None:
            return []
        before = self.rows
        logits = self._states.advance([row.next for row in before])
        self.rows = _settle(before, self._states, logits)
        if not self.rows:
            self._states = None
        return [row for row in before if row.finish is not None or row.failure is not None]


def _computed(request: Request) -> tuple[Any, ...]:
    """What must be equal for two requests to share the computation of their prompts."""
    return tuple(request.prompt), id(request.prefix)


def _settle(rows: Sequence[Row], states: Rows, logits: Tensor) -> list[Row]:
    """Give each row its token from logits (B, V). Those that are over leave `states`; the others are returned."""
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
    """All replies, in the requests' order, at most `batch_size` of them together; computed in this thread.

    A batch is kept full: the next prompts take the places of replies that ended. `priority` is called before each forward
    and may wait. Raises what the model or a request's own functions raise.
    """
    decoder, under_way = Decoder(model), dict[int, Row]()
    out: list[Generated | None] = [None] * len(requests)
    # taken from the end, the longest first: what joins later is shorter
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
