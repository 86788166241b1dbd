"""Log-probabilities of completions with one backbone pass and logits for scored tokens only. No loss, no optimiser.

What a model can take is found by trying, once a model: a packed row must give the hidden states that separate rows give,
and the head alone the logits of the model's own forward. Where one fails, the slower way is taken and the log says so.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from spear_core.head import target_logps
from spear_core.losses import token_logps
from spear_core.packing import Packed, pack
from spear_core.traces import Encoded

log = logging.getLogger(__name__)
# relative difference of hidden states above which two ways to compute them are not the same way
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
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


@dataclass(frozen=True)
class Scores:
    """Of B completions padded to C tokens: log-probabilities, which of them were asked for, which are the argmax.

    All are (B, C); a log-probability that was not asked for is 0.
    """

    logps: Tensor
    scored: Tensor
    hits: Tensor


_abilities: WeakKeyDictionary[Any, tuple[str, Ability]] = WeakKeyDictionary()
_trying = threading.Lock()


def score(model: Any, examples: Sequence[Encoded], pad_id: int, *, every_token: bool = False) -> Scores:
    """Score the tokens that the examples' masks name (or every completion token), with gradients to the hidden states.

    `model` is a causal language model, with or without PEFT around it. Completions to the same prompt share its
    computation. Raises ValueError for an example without a prompt.
    """
    able = ability(model)
    return _score(_causal(model), able, examples, pad_id, every_token)


def completion_states(model: Any, examples: Sequence[Encoded], pad_id: int) -> Tensor:
    """Hidden states that predict the completion tokens, example after example: (N, H). For `head.kl_from_base`.

    Only where `ability(model).plain_head`: elsewhere they are not all that makes the logits.
    """
    causal = _causal(model)
    packed, inputs = _prepared(causal, ability(model), examples, pad_id, every_token=True)
    hidden = _backbone(causal)(**inputs).last_hidden_state[packed.rows, packed.columns]
    return hidden[(packed.examples * packed.ids.shape[1] + packed.places).argsort()]


def ability(model: Any) -> Ability:
    """What this model can take, tried out the first time it is asked. Thread-safe."""
    causal = _causal(model)
    attention = str(getattr(causal.config, "_attn_implementation", ""))  # not every remote-code model has it
    with _trying:
        known = _abilities.get(causal)
        if known is None or known[0] != attention:
            found = _try(causal)
            if found.why:
                log.warning("training takes a slower way with this model: %s", found.why)
            known = _abilities[causal] = (attention, found)
        return known[1]


@contextlib.contextmanager
def checkpointed(model: Any) -> Iterator[None]:
    """Gradient checkpointing inside: a layer's activations are computed again in the backward pass, not kept.

    Dropout keeps its mode: only the layers' own switch is turned, not that of the modules in them.
    """
    causal = _causal(model)
    layers = [m for m in causal.modules() if isinstance(m, GradientCheckpointingLayer)]
    before = [layer.training for layer in layers]
    causal.activation_checkpointing_enable({"use_reentrant": False})
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        causal.activation_checkpointing_disable()
        for layer, was in zip(layers, before, strict=True):
            layer.training = was


# -- one pass ------------------------------------------------------------------------------------------------


def _score(causal: Any, able: Ability, examples: Sequence[Encoded], pad_id: int, every_token: bool) -> Scores:
    packed, inputs = _prepared(causal, able, examples, pad_id, every_token)
    if able.plain_head:
        hidden = _backbone(causal)(**inputs).last_hidden_state  # (R, T, H)
        logps, hits = target_logps(hidden[packed.rows, packed.columns], causal.get_output_embeddings(), packed.targets)
    else:
        columns, place = packed.columns.unique(return_inverse=True)
        logits = causal(**inputs, logits_to_keep=columns).logits[packed.rows, place]  # (N, V)
        logps, hits = token_logps(logits, packed.targets), logits.argmax(-1) == packed.targets
    shape = (len(examples), max(len(e.completion_ids) for e in examples))
    return Scores(
        packed.unflatten(logps, shape),
        packed.unflatten(torch.ones_like(hits), shape),
        packed.unflatten(hits, shape),
    )


def _prepared(
    causal: Any, able: Ability, examples: Sequence[Encoded], pad_id: int, every_token: bool
) -> tuple[Packed, dict[str, Any]]:
    device = next(causal.parameters()).device
    longest = max(len(e.prompt_ids) + len(e.completion_ids) for e in examples)
    # a window that cuts into these rows would have to be cut into the mask too, layer by layer: left to the model
    share = able.packs and (able.window is None or longest <= able.window)
    packed = pack(examples, pad_id, device, share_prompts=share, every_token=every_token)
    share = share and packed.ids.shape[0] < len(examples)
    return packed, _inputs(packed, share=share, dtype=causal.dtype)


def _inputs(packed: Packed, *, share: bool, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    if share:
        mask = packed.additive_mask(dtype)
        return {"input_ids": packed.ids, "attention_mask": mask, "position_ids": packed.positions, "use_cache": False}
    # padding on the right is out of every token's sight; positions are the model's own business
    return {"input_ids": packed.ids, "attention_mask": packed.present.long(), "use_cache": False}


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # out of PEFT's wrapper


def _backbone(causal: Any) -> Any:
    return causal.base_model


# -- what a model can take -----------------------------------------------------------------------------------


def _try(causal: Any) -> Ability:
    """Compare a packed row with separate rows, and the head with the model's own logits, on a few tokens."""
    config = causal.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    window = min((w for w in windows if isinstance(w, int) and w > 0), default=None)
    vocabulary = int(config.vocab_size)
    tokens = [(7 + 11 * i) % vocabulary for i in range(24)]
    # the second completion stands far from its prompt, so that a leak or a position that goes on counting shows
    trial = [_example(tokens[:4], tokens[4:14]), _example(tokens[:4], tokens[14:20]), _example(tokens[20:22], [5, 3])]
    reasons = []
    was_training = [m for m in causal.modules() if m.training]
    with torch.no_grad():
        causal.eval()
        try:
            try:
                packs = _packs(causal, trial)
                if not packs:
                    reasons.append("it computes something else for completions that share a row, so each gets its own")
            except REFUSALS as e:
                packs = False
                reasons.append(f"it does not take a mask for completions that share a row ({_line(e)})")
            try:
                plain = _plain_head(causal, trial[0])
            except REFUSALS as e:
                plain = False
                log.debug("the head could not be tried: %s", _line(e))
            if not plain:
                reasons.append("its head is not a frozen linear layer alone, so logits are not made in chunks")
        finally:
            for module in was_training:
                module.training = True
    return Ability(packs, plain, window, "; ".join(reasons))


def _packs(causal: Any, trial: Sequence[Encoded]) -> bool:
    device = next(causal.parameters()).device
    packed = pack(trial, 0, device, every_token=True)
    together = _backbone(causal)(**_inputs(packed, share=True, dtype=causal.dtype)).last_hidden_state
    together = together[packed.rows, packed.columns]  # (N, H)
    for number, e in enumerate(trial):
        alone = pack([e], 0, device, every_token=True)
        states = _backbone(causal)(input_ids=alone.ids, use_cache=False).last_hidden_state[0, alone.columns]
        if not _same(together[packed.examples == number], states):
            return False
    return True


def _plain_head(causal: Any, example: Encoded) -> bool:
    """Are the model's own logits the head's linear map, for states as they come and for enormous ones?

    Soft caps (Gemma 2: 30 tanh(logit / 30)) leave small logits almost alone, so small ones prove nothing.
    """
    head = causal.get_output_embeddings()
    if type(head) is not nn.Linear or any(p.requires_grad for p in head.parameters()):
        return False
    ids = pack([example], 0, next(causal.parameters()).device).ids
    states = _backbone(causal)(input_ids=ids, use_cache=False).last_hidden_state
    enormous = LARGE_LOGITS / float(head(states).float().std().clamp(min=1e-6))
    for factor in (1.0, enormous):
        own = _with_scaled_states(causal, factor)(input_ids=ids, use_cache=False).logits
        if not _same(head(states * factor), own):
            return False
    return True


class _ScaledStates(nn.Module):
    def __init__(self, backbone: Any, factor: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.factor = factor

    def forward(self, *arguments: Any, **inputs: Any) -> Any:
        out = self.backbone(*arguments, **inputs)
        out["last_hidden_state"] = out.last_hidden_state * self.factor
        return out


def _with_scaled_states(causal: Any, factor: float) -> Any:
    """The same model with its head fed larger states. A shallow copy: whoever else uses the model notices nothing."""
    other = copy.copy(causal)
    other._modules = dict(causal._modules)
    other._modules[causal.base_model_prefix] = _ScaledStates(_backbone(causal), factor)
    return other


def _same(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape:
        return False
    tolerance = TOLERANCE.get(right.dtype, 1e-3)
    left, right = left.float(), right.float()
    return bool(((left - right).norm(dim=-1) <= tolerance * right.norm(dim=-1).clamp(min=1e-6)).all())


def _example(prompt: list[int], completion: list[int]) -> Encoded:
    return Encoded(tuple(prompt), tuple(completion), (True,) * len(completion))


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
