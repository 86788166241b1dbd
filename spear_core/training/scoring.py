"""Log-probabilities of completions with one backbone pass and logits for scored tokens only. No loss, no optimiser.

What a model can take is found by trying, once a model: a packed row must give the hidden states that separate rows give,
and the head alone the logits of the model's own forward. Where one fails, the slower way is taken and the log says so.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from spear_core.errors import one_line
from spear_core.models.causal_model import CausalModel, unwrapped
from spear_core.training.head import greedy_choices, kl_from_base, target_logps
from spear_core.training.losses import token_logps
from spear_core.training.packing import Packed, batches_by_prompt, pack
from spear_core.training.traces import Encoded
from spear_core.training.trunk import Trunk, TrunkCache, first_adapted, text_key

log = logging.getLogger(__name__)
# relative difference of hidden states above which two ways to compute them are not the same way (a leak makes it 0.6)
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
LARGE_LOGITS = 1000.0
LEARNED_LONG_TOKENS = 64  # docs/METRICS.md: longer completions count as learned by their mean log p
LEARNED_LONG_LOGP = -0.1
WIDE_ROW_TOKENS = 320  # of rows whose prompts share a long beginning
ROW_TOKENS = 64  # short prompts share a row up to this: fewer tokens of padding, still cheap attention
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


_abilities: WeakKeyDictionary[PreTrainedModel, tuple[str, Ability]] = WeakKeyDictionary()
_trunks: WeakKeyDictionary[PreTrainedModel, Trunk | None] = WeakKeyDictionary()
# by the weight of the input embedding, which all module trees over one base share, and the first adapted layer
_kept_states = WeakIdKeyDictionary()  # told by identity: tensors have no truth when they are compared
_trying = threading.Lock()


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
            states = trunk.hidden(packed, examples, inputs) if trunk else _backbone(causal)(**inputs).last_hidden_state
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


def compute_dtype(causal: PreTrainedModel) -> contextlib.AbstractContextManager[Any]:
    """Around a forward of a bfloat16 model: LoRA's float32 factors are then multiplied as bfloat16 too.

    Left alone PEFT makes float32 of the activations for them, in every adapted map, which costs more than the products.
    The factors and their gradients stay float32.
    """
    if causal.dtype != torch.bfloat16 or not is_lora_cast(causal):
        return contextlib.nullcontext()
    return torch.autocast(next(causal.parameters()).device.type, dtype=torch.bfloat16)


def is_lora_cast(causal: PreTrainedModel) -> bool:
    """Whether `cast_lora` was called for this model."""
    return bool(getattr(causal, "_lora_follows_autocast", False))


def cast_lora(model: CausalModel) -> None:
    """Let the adapted maps of a model take the activations as they come wherever autocast is on."""
    causal = unwrapped(model)
    causal._lora_follows_autocast = True  # type: ignore[assignment]
    for module in causal.modules():
        if isinstance(module, BaseTunerLayer):
            module._cast_input_dtype = _as_it_comes  # type: ignore[method-assign, assignment]


def _as_it_comes(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if x is None or x.dtype == dtype or torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(dtype)


def trunk_of(model: CausalModel) -> Trunk | None:
    """The model cut below its first adapted layer, with the cache of what enters that layer. Thread-safe.

    None where LoRA begins in the first layer, where layers look back only so far, or where the parts, tried the first time
    the model is asked, do not give what the whole gives.
    """
    causal, able = unwrapped(model), ability(model)
    with _trying:
        if causal not in _trunks:
            _trunks[causal] = _try_trunk(causal, able)
        return _trunks[causal]


def drop_kept_states(model: CausalModel, keep: Sequence[Encoded] = ()) -> None:
    """Drop the kept hidden states of every text but these: erased texts must not stay in memory."""
    if trunk := trunk_of(model):
        trunk.cache.drop({text_key(e) for e in keep})


def layers_of(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The decoder layers, as transformers marks them; none of a model that has its own kind."""
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]


@contextlib.contextmanager
def checkpointed(model: CausalModel) -> Iterator[None]:
    """Gradient checkpointing inside: a layer's activations are computed again in the backward pass, not kept.

    Dropout keeps its mode: only the layers' own switch is turned, not that of the modules in them.
    """
    causal, layers = unwrapped(model), layers_of(model)
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
    return packed, _inputs(packed, share=share, dtype=causal.dtype)


def _inputs(packed: Packed, *, share: bool, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    if share:
        mask = packed.additive_mask(dtype)
        return {"input_ids": packed.ids, "attention_mask": mask, "position_ids": packed.positions, "use_cache": False}
    # padding on the right is out of every token's sight; positions are the model's own business
    return {"input_ids": packed.ids, "attention_mask": packed.present.long(), "use_cache": False}


def _backbone(causal: PreTrainedModel) -> nn.Module:
    return causal.base_model


# -- what a model can take -----------------------------------------------------------------------------------


def _try(causal: PreTrainedModel) -> Ability:
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
                reasons.append(f"it does not take a mask for completions that share a row ({one_line(e)})")
            try:
                plain = _plain_head(causal, trial[0])
            except REFUSALS as e:
                plain = False
                log.debug("the head could not be tried: %s", one_line(e))
            if not plain:
                reasons.append("its head is not a frozen linear layer alone, so logits are not made in chunks")
        finally:
            for module in was_training:
                module.training = True
    return Ability(packs, plain, window, "; ".join(reasons))


def _try_trunk(causal: PreTrainedModel, able: Ability) -> Trunk | None:
    backbone = _backbone(causal)
    first = first_adapted(backbone)
    if not first or not able.plain_head or not able.packs or able.window is not None:
        return None
    vocabulary = int(causal.config.get_text_config().vocab_size)
    tokens = [(5 + 13 * i) % vocabulary for i in range(20)]
    trial = [_example(tokens[:4], tokens[4:14]), _example(tokens[:4], tokens[14:20])]
    was_training = [m for m in causal.modules() if m.training]
    try:
        causal.eval()
        kept: dict[int, TrunkCache] = _kept_states.setdefault(causal.get_input_embeddings().weight, {})
        trunk = Trunk(backbone, first, kept.setdefault(first, TrunkCache()))
        packed = pack(trial, 0, next(causal.parameters()).device, every_token=True)
        inputs = _inputs(packed, share=True, dtype=causal.dtype)
        with torch.no_grad():
            halves = trunk.hidden(packed, trial, inputs)[packed.present]
            if _same(halves, backbone(**inputs).last_hidden_state[packed.present]):
                trunk.cache.discard([text_key(e) for e in trial])
                return trunk
        log.warning("this model computes something else when its layers are cut in two; the lower ones are not cached")
    except REFUSALS as e:
        log.warning("the lower layers of this model are not cached: %s", one_line(e))
    finally:
        for module in was_training:
            module.training = True
    return None


def _packs(causal: PreTrainedModel, trial: Sequence[Encoded]) -> bool:
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


def _plain_head(causal: PreTrainedModel, example: Encoded) -> bool:
    """Whether the model's own logits are the head's linear map, for usual states and for very large ones.

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
    other._modules[causal.base_model_prefix] = _ScaledStates(_backbone(causal), factor)
    return other


def _same(left: Tensor, right: Tensor) -> bool:
    """All tokens together: rounding to bfloat16 puts a single one off by as much as a tenth of its length."""
    if left.shape != right.shape:
        return False
    tolerance = TOLERANCE.get(right.dtype, 1e-3)
    left, right = left.float(), right.float()
    return bool((left - right).norm() <= tolerance * right.norm().clamp(min=1e-6))


def _example(prompt: list[int], completion: list[int]) -> Encoded:
    return Encoded(tuple(prompt), tuple(completion), (True,) * len(completion))
