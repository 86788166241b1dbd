"""What a causal language model can take in one pass, found by trying, once a model. No loss, no optimiser.

A packed row must give the hidden states that separate rows give, and the head alone the logits of the model's own forward.
Where one fails, the slower way is taken and the log says so.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spear_core.errors import one_line
from spear_core.models.causal_model import CausalModel, unwrapped
from spear_core.models.decoder_layers import evaluating
from spear_core.training.packing import Packed, pack
from spear_core.training.traces import Encoded

log = logging.getLogger(__name__)
# relative difference of hidden states above which two ways to compute them are not the same way (a leak makes it 0.6)
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
LARGE_LOGITS = 1000.0
# what an architecture without the trick may raise when it is tried
REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError, ImportError)


@dataclass(frozen=True)
class Ability:
    """What a model can take; `why` says in words what it cannot, and is empty where it can take everything."""

    packs: bool  # several completions in one row
    plain_head: bool  # logits are the head's linear map of the hidden states, and the head is frozen
    window: int | None  # tokens that a token may look back, where that is limited
    why: str = ""


_abilities: WeakKeyDictionary[PreTrainedModel, tuple[str, Ability]] = WeakKeyDictionary()
_trying = threading.Lock()


def ability(model: CausalModel) -> Ability:
    """What this model can take, tried out the first time it is asked. Thread-safe."""
    causal = unwrapped(model)
    attention = str(getattr(causal.config, "_attn_implementation", ""))  # not every remote-code model has it
    with _trying:
        known = _abilities.get(causal)
        if known is None or known[0] != attention:
            found = _try(causal)
            if found.why:
                log.warning("training takes a slower way with this model: %s", found.why)
            known = _abilities[causal] = (attention, found)
        return known[1]


def backbone_inputs(packed: Packed, *, share: bool, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """What a backbone takes for packed rows; `share`: whether several completions share a row."""
    if share:
        mask = packed.additive_mask(dtype)
        return {"input_ids": packed.ids, "attention_mask": mask, "position_ids": packed.positions, "use_cache": False}
    # padding on the right is out of every token's sight; positions are the model's own business
    return {"input_ids": packed.ids, "attention_mask": packed.present.long(), "use_cache": False}


def backbone_of(causal: PreTrainedModel) -> nn.Module:
    """The model without its head."""
    return causal.base_model


def _try(causal: PreTrainedModel) -> Ability:
    """Compare a packed row with separate rows, and the head with the model's own logits, on a few tokens."""
    config = causal.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    window = min((w for w in windows if isinstance(w, int) and w > 0), default=None)
    vocabulary = int(config.vocab_size)
    tokens = [(7 + 11 * i) % vocabulary for i in range(24)]
    # the second completion stands far from its prompt, so that a leak or a position that goes on counting shows
    trial = [made_up(tokens[:4], tokens[4:14]), made_up(tokens[:4], tokens[14:20]), made_up(tokens[20:22], [5, 3])]
    reasons = []
    with torch.no_grad(), evaluating(causal):
        try:
            packs = _packs(causal, trial)
            if not packs:
                reasons.append("it computes something else for completions that share a row, so each gets its own")
        except REFUSALS as e:
            packs = False
            reasons.append(f"it does not take a mask for completions that share a row ({one_line(e)})")
        try:
            plain = _plain_head(causal, trial[0])
        except REFUSALS as e:
            plain = False
            log.debug("the head could not be tried: %s", one_line(e))
        if not plain:
            reasons.append("its head is not a frozen linear layer alone, so logits are not made in chunks")
    return Ability(packs, plain, window, "; ".join(reasons))


def _packs(causal: PreTrainedModel, trial: Sequence[Encoded]) -> bool:
    device = next(causal.parameters()).device
    packed = pack(trial, 0, device, every_token=True)
    together = backbone_of(causal)(**backbone_inputs(packed, share=True, dtype=causal.dtype)).last_hidden_state
    together = together[packed.rows, packed.columns]  # (N, H)
    for number, e in enumerate(trial):
        alone = pack([e], 0, device, every_token=True)
        states = backbone_of(causal)(input_ids=alone.ids, use_cache=False).last_hidden_state[0, alone.columns]
        if not same_states(together[packed.examples == number], states):
            return False
    return True


def _plain_head(causal: PreTrainedModel, example: Encoded) -> bool:
    """Whether the model's own logits are the head's linear map, for usual states and for very large ones.

    Soft caps (Gemma 2: 30 tanh(logit / 30)) leave small logits almost alone, so small ones prove nothing.
    """
    head = causal.get_output_embeddings()
    if type(head) is not nn.Linear or any(p.requires_grad for p in head.parameters()):
        return False
    ids = pack([example], 0, next(causal.parameters()).device).ids
    states = backbone_of(causal)(input_ids=ids, use_cache=False).last_hidden_state
    enormous = LARGE_LOGITS / float(head(states).float().std().clamp(min=1e-6))
    for factor in (1.0, enormous):
        own = _with_scaled_states(causal, factor)(input_ids=ids, use_cache=False).logits
        if not same_states(head(states * factor), own):
            return False
    return True


class _ScaledStates(nn.Module):
    def __init__(self, backbone: nn.Module, factor: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.factor = factor

    def forward(self, *arguments: Any, **inputs: Any) -> Any:
        out = self.backbone(*arguments, **inputs)
        out["last_hidden_state"] = out.last_hidden_state * self.factor
        return out


def _with_scaled_states(causal: PreTrainedModel, factor: float) -> PreTrainedModel:
    """The same model with its head fed larger states. A shallow copy: whoever else uses the model notices nothing."""
    other = copy.copy(causal)
    other._modules = dict(causal._modules)
    other._modules[causal.base_model_prefix] = _ScaledStates(backbone_of(causal), factor)
    return other


def same_states(left: Tensor, right: Tensor) -> bool:
    """Whether two ways to compute hidden states agree.

    All tokens together: rounding to bfloat16 puts a single one off by as much as a tenth of its length.
    """
    if left.shape != right.shape:
        return False
    tolerance = TOLERANCE.get(right.dtype, 1e-3)
    left, right = left.float(), right.float()
    return bool((left - right).norm() <= tolerance * right.norm().clamp(min=1e-6))


def made_up(prompt: list[int], completion: list[int]) -> Encoded:
    """An example to try a model with."""
    return Encoded(tuple(prompt), tuple(completion), (True,) * len(completion))
