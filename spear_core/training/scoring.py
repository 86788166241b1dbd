"""Log-probabilities of completions with one backbone pass and logits for scored tokens only. No loss, no optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spear_core.models.causal_model import CausalModel, unwrapped
from spear_core.models.lora_dtype import compute_dtype
from spear_core.training.ability import Ability, ability, backbone_inputs, backbone_of
from spear_core.training.head import greedy_choices, kl_from_base, target_logps
from spear_core.training.losses import token_logps
from spear_core.training.packing import Packed, batches_by_prompt, pack
from spear_core.training.traces import Encoded
from spear_core.training.trunk import trunk_of

LEARNED_LONG_TOKENS = 64  # docs/METRICS.md: longer completions count as learned by their mean log p
LEARNED_LONG_LOGP = -0.1
WIDE_ROW_TOKENS = 320  # of rows whose prompts share a long beginning
ROW_TOKENS = 64  # short prompts share a row up to this: fewer tokens of padding, still cheap attention


@dataclass(frozen=True)
class Scores:
    """Of B completions padded to C tokens: log-probabilities, which of them were asked for, which are the argmax.

    All are (B, C); a log-probability that was not asked for is 0.
    """

    logps: Tensor
    scored: Tensor
    hits: Tensor


@dataclass(frozen=True)
class Predictions:
    """What predicts N scored tokens: hidden states (N, H) where the head is plain, else logits (N, V).

    They come example after example. Gradients flow into them.
    """

    packed: Packed
    values: Tensor
    head: nn.Linear | None
    shape: tuple[int, int]  # (B, C)

    def scores(self) -> Scores:
        logps, hits = self._logps_and_hits()
        return Scores(
            self.packed.unflatten(logps, self.shape),
            self.packed.unflatten(torch.ones_like(hits), self.shape),
            self.packed.unflatten(hits, self.shape),
        )

    def as_base(self) -> Tensor:
        """What `kl_from` takes as the base, and what is worth keeping of it: hidden states, or log-probabilities."""
        return self.values.detach() if self.head is not None else self.values.detach().float().log_softmax(-1)

    def kl_from(self, base: Tensor) -> tuple[Tensor, Tensor]:
        """KL(base || now) of each scored token in nats, and whether the greedy choice is the same: (N,), (N,)."""
        if self.head is not None:
            return kl_from_base(self.values, base, self.head)
        now = self.values.float().log_softmax(-1)
        return (base.exp() * (base - now)).sum(-1), base.argmax(-1) == now.argmax(-1)

    def choices(self) -> Tensor:
        """The most probable token in the place of each scored one: (N,)."""
        return greedy_choices(self.values, self.head) if self.head is not None else self.values.argmax(-1)

    def split(self, first: int) -> tuple[Predictions, Predictions]:
        """Those of the first examples, and those of the others."""
        at = int((self.packed.examples < first).sum())
        width = self.shape[1]
        head, tail = self.packed.scored_split(at, first)
        return (
            Predictions(head, self.values[:at], self.head, (first, width)),
            Predictions(tail, self.values[at:], self.head, (self.shape[0] - first, width)),
        )

    def _logps_and_hits(self) -> tuple[Tensor, Tensor]:
        targets = self.packed.targets
        if self.head is not None:
            return target_logps(self.values, self.head, targets)
        return token_logps(self.values, targets), self.values.argmax(-1) == targets


def predict(model: CausalModel, examples: Sequence[Encoded], pad_id: int, *, every_token: bool = False) -> Predictions:
    """One backbone pass over the examples; scored are the tokens that their masks name (or every completion token).

    `model` is a causal language model, with or without PEFT around it. Completions to the same prompt share its
    computation. Raises ValueError for an example without a prompt.
    """
    causal, able = unwrapped(model), ability(model)
    packed, inputs = _prepared(causal, able, examples, pad_id, every_token)
    shape = (len(examples), max(len(e.completion_ids) for e in examples))
    if able.plain_head:
        trunk = trunk_of(model)
        with compute_dtype(causal):
            states = (
                trunk.hidden(packed, examples, inputs) if trunk else backbone_of(causal)(**inputs).last_hidden_state
            )
        hidden = states[packed.rows, packed.columns]  # (N, H)
        return Predictions(packed, hidden, causal.get_output_embeddings(), shape)
    columns, place = packed.columns.unique(return_inverse=True)
    logits = causal(**inputs, logits_to_keep=columns).logits[packed.rows, place]  # (N, V)
    return Predictions(packed, logits, None, shape)


def score(model: CausalModel, examples: Sequence[Encoded], pad_id: int, *, every_token: bool = False) -> Scores:
    """`predict`, and the scores of what was predicted."""
    return predict(model, examples, pad_id, every_token=every_token).scores()


@dataclass(frozen=True)
class Row:
    """One completion as a whole; log-probabilities in nats. `masked_logp` is the sum over the tokens its mask names."""

    mean_logp: float
    masked_logp: float
    learned: bool  # METRICS.md: every token, EOS included, is the argmax; long ones by their mean log-probability


@torch.no_grad()
def score_rows(
    model: CausalModel,
    examples: Sequence[Encoded],
    pad_id: int,
    micro_batch: int,
    priority: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Every completion by teacher forcing, `micro_batch` at a time; `priority` is called before each forward."""
    rows: dict[int, Row] = {}
    for indices in batches_by_prompt(examples, micro_batch):
        priority()
        part = [examples[i] for i in indices]
        scores = score(model, part, pad_id, every_token=True)
        for i, e, logps, hits in zip(indices, part, scores.logps.tolist(), scores.hits.tolist(), strict=True):
            n = len(e.completion_ids)
            mean = sum(logps[:n]) / n
            learned = mean >= LEARNED_LONG_LOGP if n > LEARNED_LONG_TOKENS else all(hits[:n])
            rows[i] = Row(mean, sum(p for p, m in zip(logps, e.mask, strict=False) if m), learned)
    return [rows[i] for i in range(len(examples))]


@torch.no_grad()
def is_given(model: CausalModel, example: Encoded) -> bool:
    """Whether the model says this completion, by the rule of `Row.learned`.

    One plain forward pass: nothing is tried out first, as the first `predict` of a model does, and nothing is kept.
    """
    causal, n = unwrapped(model), len(example.completion_ids)
    ids = torch.tensor([[*example.prompt_ids, *example.completion_ids]], device=next(causal.parameters()).device)
    with compute_dtype(causal):
        logits = causal(input_ids=ids, use_cache=False, logits_to_keep=n + 1).logits[0, -n - 1 : -1]  # (n, V)
    said = ids[0, -n:]
    if n <= LEARNED_LONG_TOKENS:
        return bool((logits.argmax(-1) == said).all())
    return float(token_logps(logits, said).mean()) >= LEARNED_LONG_LOGP


# -- one pass ------------------------------------------------------------------------------------------------


def _prepared(
    causal: PreTrainedModel, able: Ability, examples: Sequence[Encoded], pad_id: int, every_token: bool
) -> tuple[Packed, dict[str, Any]]:
    device = next(causal.parameters()).device
    longest = max(len(e.prompt_ids) + len(e.completion_ids) for e in examples)
    # a window that cuts into these rows would have to be cut into the mask too, layer by layer: left to the model
    share = able.packs and (able.window is None or longest <= able.window)
    room = ROW_TOKENS if able.plain_head else 0  # other heads are applied to whole columns: full rows would make more
    packed = pack(
        examples,
        pad_id,
        device,
        share_prompts=share,
        row_tokens=room,
        wide_row_tokens=WIDE_ROW_TOKENS if room else 0,
        every_token=every_token,
    )
    share = share and packed.ids.shape[0] < len(examples)
    return packed, backbone_inputs(packed, share=share, dtype=causal.dtype)
