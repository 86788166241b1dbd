"""Completions that share a prompt, in one row: [prompt | completion | completion | ... | padding]. Tensors only, no model.

Every completion sees the prompt and itself, never a sibling, and its positions go on where the prompt ends. So one pass
over the row gives the hidden states that a pass over each prompt + completion would, and the prompt is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.traces import Encoded


@dataclass(frozen=True)
class Packed:
    """Rows for one forward, and where in them the N scored tokens are predicted.

    Attributes:
        ids: (R, T), padded on the right.
        positions: (R, T), restarted for each completion at its prompt's length; 0 on padding.
        present: (R, T), False on padding.
        segments: (R, T), 0 for the prompt, 1, 2, ... for its completions, -1 on padding.
        rows, columns: (N,) each: the place whose hidden state predicts the scored token.
        targets: (N,), the scored tokens.
        examples, places: (N,) each: which example a scored token belongs to, and where it stands in its completion.
    """

    ids: Tensor
    positions: Tensor
    present: Tensor
    segments: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    examples: Tensor
    places: Tensor

    def may_see(self) -> Tensor:
        """(R, T, T): may the token of the second axis see that of the third. Padding sees itself, for a finite softmax."""
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        query, key = self.segments.unsqueeze(2), self.segments.unsqueeze(1)
        seen = ((key == 0) | (key == query)) & (place.unsqueeze(0) <= place.unsqueeze(1)) & (query >= 0)
        return seen | torch.eye(len(place), dtype=torch.bool, device=self.ids.device)

    def additive_mask(self, dtype: torch.dtype) -> Tensor:
        """(R, 1, T, T) to be added to attention scores: 0 where a token may look, the dtype's lowest value elsewhere."""
        seen = self.may_see().unsqueeze(1)
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)

    def unflatten(self, values: Tensor, shape: tuple[int, int]) -> Tensor:
        """Values of the scored tokens, (N,), at (example, place) of a (B, C) tensor; 0 elsewhere. Differentiable."""
        return values.new_zeros(shape).index_put((self.examples, self.places), values)


def pack(
    examples: Sequence[Encoded],
    pad_id: int,
    device: torch.device | str = "cpu",
    *,
    share_prompts: bool = True,
    every_token: bool = False,
) -> Packed:
    """Lay examples out, those with the same prompt in one row (a row each with `share_prompts=False`).

    Scored are the tokens that an example's mask names, or all completion tokens with `every_token`.

    Raises:
        ValueError: for an example without a prompt: nothing would predict its first token.
    """
    groups: dict[tuple[int, ...] | int, list[int]] = {}
    for number, e in enumerate(examples):
        if not e.prompt_ids:
            raise ValueError("an example without a prompt cannot be scored")
        groups.setdefault(e.prompt_ids if share_prompts else number, []).append(number)
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    segments: list[list[int]] = []
    scored: list[tuple[int, int, int, int, int]] = []  # row, column, target, example, place
    for row, members in enumerate(groups.values()):
        prompt = examples[members[0]].prompt_ids
        row_ids, row_positions, row_segments = list(prompt), list(range(len(prompt))), [0] * len(prompt)
        for segment, number in enumerate(members, start=1):
            e, start = examples[number], len(row_ids)
            for place, (token, wanted) in enumerate(zip(e.completion_ids, e.mask, strict=True)):
                if wanted or every_token:
                    # the prompt's last token predicts the first of each completion
                    before = start + place - 1 if place else len(prompt) - 1
                    scored.append((row, before, token, number, place))
            row_ids += e.completion_ids
            row_positions += range(len(prompt), len(prompt) + len(e.completion_ids))
            row_segments += [segment] * len(e.completion_ids)
        ids.append(row_ids)
        positions.append(row_positions)
        segments.append(row_segments)
    width = max(map(len, ids), default=0)

    def padded(rows: list[list[int]], value: int) -> Tensor:
        return torch.tensor([r + [value] * (width - len(r)) for r in rows], dtype=torch.long, device=device)

    of_row = padded(segments, -1)
    found = torch.tensor(scored, dtype=torch.long, device=device).reshape(-1, 5).unbind(1)
    return Packed(padded(ids, pad_id), padded(positions, 0), of_row >= 0, of_row, *found)


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
