"""Prompts and their completions in few, full rows: [prompt | completion | completion | prompt | ...]. No model.

What all prompts begin with, such as a system message, may stand once at the head of a row:
[beginning | rest of a prompt | completion | rest of another prompt | ...].

Every completion sees its own prompt and itself, never a sibling or a neighbour, and its positions go on where its prompt
ends. So one pass over the row gives the hidden states that a pass over each prompt + completion would; a prompt is
computed once for all its completions, and short prompts share a row instead of being padded to the longest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from spear_core.training.traces import Encoded

COMMON_TOKENS = 8  # that prompts must share before it pays to share them


@dataclass(frozen=True)
class Piece:
    """`length` tokens of an example's prompt + completion, from its token `offset` on, at a place in a row."""

    row: int
    column: int
    example: int
    offset: int
    length: int


@dataclass(frozen=True)
class Packed:
    """Rows for one forward, and where in them the N scored tokens are predicted.

    Attributes:
        ids: (R, T), padded on the right.
        positions: (R, T), restarted for each prompt at 0, for each completion at its prompt's length; 0 on padding.
        present: (R, T), False on padding.
        segments: (R, T), a number for each prompt and each completion; -1 on padding.
        contexts: (R, T), the number of the prompt that a token follows, a prompt's own for its tokens; -1 on padding.
        beginnings: (R, T), the number of the row's common beginning; the same as `contexts` where it has none.
        rows, columns: (N,) each: the place whose hidden state predicts the scored token.
        targets: (N,), the scored tokens.
        examples, places: (N,) each: which example a scored token belongs to, and where it stands in its completion.
            Scored tokens come example after example.
        pieces: which part of which example stands where, each token of a row (padding aside) in exactly one.
    """

    ids: Tensor
    positions: Tensor
    present: Tensor
    segments: Tensor
    contexts: Tensor
    beginnings: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    examples: Tensor
    places: Tensor
    pieces: tuple[Piece, ...] = ()

    def may_see(self) -> Tensor:
        """(R, T, T): may the token of the second axis see that of the third. Padding sees itself, for a finite softmax."""
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        query, key = self.segments.unsqueeze(2), self.segments.unsqueeze(1)
        seen = (key == query) | (key == self.contexts.unsqueeze(2)) | (key == self.beginnings.unsqueeze(2))
        seen = seen & (place.unsqueeze(0) <= place.unsqueeze(1)) & (query >= 0)
        return seen | torch.eye(len(place), dtype=torch.bool, device=self.ids.device)

    def additive_mask(self, dtype: torch.dtype) -> Tensor:
        """(R, 1, T, T) to be added to attention scores: 0 where a token may look, the dtype's lowest value elsewhere."""
        seen = self.may_see().unsqueeze(1)
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)

    def scored_split(self, at: int, first: int) -> tuple[Packed, Packed]:
        """The same rows, with the scored tokens before `at` and from there on; the others' examples count from `first`."""
        names = ("rows", "columns", "targets", "examples", "places")
        before = {name: getattr(self, name)[:at] for name in names}
        after = {name: getattr(self, name)[at:] for name in names}
        return replace(self, **before), replace(self, **{**after, "examples": after["examples"] - first})

    def unflatten(self, values: Tensor, shape: tuple[int, int]) -> Tensor:
        """Values of the scored tokens, (N,), at (example, place) of a (B, C) tensor; 0 elsewhere. Differentiable."""
        return values.new_zeros(shape).index_put((self.examples, self.places), values)


def pack(
    examples: Sequence[Encoded],
    pad_id: int,
    device: torch.device | str = "cpu",
    *,
    share_prompts: bool = True,
    row_tokens: int = 0,
    wide_row_tokens: int = 0,
    every_token: bool = False,
) -> Packed:
    """Lay examples out, those with the same prompt in one row (a row each with `share_prompts=False`).

    Different prompts share a row as long as it holds at most `row_tokens`, or what the longest takes where that is more.
    Where different prompts begin with at least COMMON_TOKENS equal tokens, these stand once a row, and rows hold
    `wide_row_tokens` (0: prompts stay whole).
    Scored are the tokens that an example's mask names, or all completion tokens with `every_token`.

    Raises:
        ValueError: for an example without a prompt: nothing would predict its first token.
    """
    groups: dict[tuple[int, ...] | int, list[int]] = {}
    for number, e in enumerate(examples):
        if not e.prompt_ids:
            raise ValueError("an example without a prompt cannot be scored")
        groups.setdefault(e.prompt_ids if share_prompts else number, []).append(number)
    members = list(groups.values())
    common = common_beginning([examples[m[0]].prompt_ids for m in members]) if share_prompts and wide_row_tokens else 0
    if common < COMMON_TOKENS:
        common = 0
    lengths = [
        len(examples[m[0]].prompt_ids) - common + sum(len(examples[n].completion_ids) for n in m) for m in members
    ]
    room = max(1, wide_row_tokens - common) if common else row_tokens
    layout = _Layout(common)
    for row, groups_of_row in enumerate(fill(lengths, room if share_prompts else 0)):
        for group in groups_of_row:
            layout.add(row, examples, members[group], every_token)
    width = max(map(len, layout.ids), default=0)

    def padded(rows: list[list[int]], value: int) -> Tensor:
        return torch.tensor([r + [value] * (width - len(r)) for r in rows], dtype=torch.long, device=device)

    segments, contexts, beginnings = (padded(x, -1) for x in (layout.segments, layout.contexts, layout.beginnings))
    scored = torch.tensor(sorted(layout.scored), dtype=torch.long, device=device).reshape(-1, 5)
    example, place, row_of, column, target = scored.unbind(1)
    ids, positions = padded(layout.ids, pad_id), padded(layout.positions, 0)
    return Packed(
        ids,
        positions,
        segments >= 0,
        segments,
        contexts,
        beginnings,
        row_of,
        column,
        target,
        example,
        place,
        tuple(layout.pieces),
    )


def fill(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Indices of the lengths, row by row: first fit, longest first. A row holds `room`, or the longest if that is more.

    Without room each gets a row of its own. The same lengths give the same rows.
    """
    if not room:
        return [[i] for i in range(len(lengths))]
    room = max(room, *lengths) if lengths else room
    rows: list[list[int]] = []
    left: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        row = next((r for r, free in enumerate(left) if free >= lengths[i]), None)
        if row is None:
            rows.append([i])
            left.append(room - lengths[i])
        else:
            rows[row].append(i)
            left[row] -= lengths[i]
    return rows


@dataclass
class _Layout:
    """Rows under construction, as lists; each begins with the first `common` tokens of its first prompt."""

    common: int = 0
    ids: list[list[int]] = field(default_factory=list)
    positions: list[list[int]] = field(default_factory=list)
    segments: list[list[int]] = field(default_factory=list)
    contexts: list[list[int]] = field(default_factory=list)
    beginnings: list[list[int]] = field(default_factory=list)
    scored: list[tuple[int, int, int, int, int]] = field(default_factory=list)  # example, place, row, column, target
    pieces: list[Piece] = field(default_factory=list)
    parts: int = 0

    def add(self, row: int, examples: Sequence[Encoded], members: Sequence[int], every_token: bool) -> None:
        """Put a prompt and its completions at the end of a row."""
        while len(self.ids) <= row:
            for rows in (self.ids, self.positions, self.segments, self.contexts, self.beginnings):
                rows.append([])
        prompt = examples[members[0]].prompt_ids
        if self.common and not self.ids[row]:
            self.pieces.append(Piece(row, 0, members[0], 0, self.common))
            self._append(row, prompt[: self.common], 0, None)
        self.pieces.append(Piece(row, len(self.ids[row]), members[0], self.common, len(prompt) - self.common))
        context = self._append(row, prompt[self.common :], self.common, None)
        last = len(self.ids[row]) - 1
        for number in members:
            e, start = examples[number], len(self.ids[row])
            self.pieces.append(Piece(row, start, number, len(prompt), len(e.completion_ids)))
            self._append(row, e.completion_ids, len(prompt), context)
            for place, (token, wanted) in enumerate(zip(e.completion_ids, e.mask, strict=True)):
                if wanted or every_token:
                    # the prompt's last token predicts the first of each completion
                    self.scored.append((number, place, row, start + place - 1 if place else last, token))

    def _append(self, row: int, tokens: Sequence[int], position: int, context: int | None) -> int:
        number = self.parts
        self.parts += 1
        self.ids[row] += tokens
        self.positions[row] += range(position, position + len(tokens))
        self.segments[row] += [number] * len(tokens)
        context = number if context is None else context
        self.contexts[row] += [context] * len(tokens)
        self.beginnings[row] += [self.segments[row][0] if self.common else context] * len(tokens)
        return number


def common_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens different prompts begin with alike; at least one is left to each. 0 for a single prompt."""
    if len(prompts) < 2:
        return 0
    longest = min(map(len, prompts)) - 1
    return next((i for i in range(longest) if any(p[i] != prompts[0][i] for p in prompts)), longest)


def batches_by_prompt(examples: Sequence[Encoded], size: int) -> Iterator[list[int]]:
    """Indices of at most `size` examples at a time, those of one prompt together (unless they alone are more).

    The order is that of the prompts' first appearance, so that the same draw gives the same batches.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, e in enumerate(examples):
        groups.setdefault(e.prompt_ids, []).append(number)
    batch: list[int] = []
    for members in groups.values():
        if batch and len(batch) + len(members) > size:
            yield batch
            batch = []
        batch = [*batch, *members]
        while len(batch) >= size:
            yield batch[:size]
            batch = batch[size:]
    if batch:
        yield batch
