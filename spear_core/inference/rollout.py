"""Replies to many prompts at once, for revisions, re-asking and self-play. No streaming, no training, no storage.

A batch is kept full: a row leaves when its reply ends, and the next prompts take the places that are free. A prompt is
computed once for all its samples, and its keys and values are shared out. Models whose cache is not a plain one of keys
and values (sliding windows, recurrent layers) are left to transformers' own `generate`, a batch at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spear_core.inference.decoding import Decoding, Rows
from spear_core.models.prompts import encode_prompt, end_token_ids, padding_token_id
from spear_core.training.traces import Messages

log = logging.getLogger(__name__)
REFILL_SHARE = 0.25  # of the batch that must be free before new prompts are taken in: each time costs a forward


@dataclass
class _Row:
    prompt: int
    tokens: list[int] = field(default_factory=list)


@dataclass
class _Batch:
    """Rows under way, and the token to go in next of each: (B,)."""

    rows: list[_Row]
    decoded: Rows
    last: Tensor


def replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Messages],
    *,
    context_tokens: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 0.95,
    batch_size: int = 32,
    samples: int = 1,
    priority: Callable[[], None] = lambda: None,
) -> list[list[str]]:
    """`samples` replies to each prompt, in the prompts' order. Conversations are cut from their oldest side to fit.

    Greedy samples are all the same and computed once. At most `batch_size` rows go through the model together.
    `pace` is called before each forward and may wait.
    """
    decoding = Decoding(
        min(max_new_tokens, context_tokens // 2),
        frozenset(end_token_ids(tokenizer)),
        padding_token_id(tokenizer),
        temperature,
        top_p,
    )
    encoded = [encode_prompt(tokenizer, list(p), max_tokens=context_tokens - decoding.new_tokens) for p in prompts]
    drawn = samples if temperature > 0 else 1
    tokens = generate_tokens(model, encoded, decoding, batch_size=batch_size, samples=drawn, priority=priority)
    texts = [[tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in of_prompt] for of_prompt in tokens]
    return [t * (samples // drawn) for t in texts]


def answer_all(model: Any, tokenizer: Any, prompts: Sequence[Messages], **how: Any) -> list[str]:
    """One reply to each prompt; the arguments of `replies`."""
    return [first for first, *_ in replies(model, tokenizer, prompts, **how)]


@torch.inference_mode()
def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    batch_size: int,
    samples: int = 1,
    priority: Callable[[], None] = lambda: None,
) -> list[list[list[int]]]:
    """Reply tokens without the end token: per prompt, per sample."""
    out: list[list[list[int]]] = [[] for _ in prompts]
    # taken from the end, the longest first: what joins later is shorter and is padded to what is there
    waiting = sorted((i for i in range(len(prompts)) for _ in range(samples)), key=lambda i: (len(prompts[i]), i))
    if not waiting:
        return out
    batch: _Batch | None = None
    while waiting or batch:
        priority()
        free = batch_size - (len(batch.rows) if batch else 0)
        if waiting and (batch is None or free >= max(1, REFILL_SHARE * batch_size)):
            taken = [waiting.pop() for _ in range(min(free, len(waiting)))]
            started = _start(model, prompts, taken, decoding)
            if started is None:
                return _with_generate(model, prompts, decoding, batch_size, samples)
            batch = _joined(batch, _settle(started, decoding, out))
            continue
        assert batch is not None  # the loop's condition, and nothing waits
        batch.last = decoding.choose(batch.decoded.advance(model, batch.last))
        batch = _settle(batch, decoding, out)
    return out


def _start(model: Any, prompts: Sequence[Sequence[int]], taken: list[int], decoding: Decoding) -> _Batch | None:
    """Compute each different prompt once and choose the first tokens. None where the cache is not a plain one."""
    different = list(dict.fromkeys(taken))
    begun = Rows.begin(model, [prompts[i] for i in different], decoding.pad_id)
    if begun is None:
        return None
    decoded, logits = begun
    if len(taken) > len(different):
        of_row = [different.index(i) for i in taken]
        decoded.keep(of_row)
        logits = logits[of_row]
    return _Batch([_Row(i) for i in taken], decoded, decoding.choose(logits))


def _settle(batch: _Batch, decoding: Decoding, out: list[list[list[int]]]) -> _Batch | None:
    """Hand each row its newest token, and let finished rows leave. None where none is left."""
    stay = []
    for place, (row, token) in enumerate(zip(batch.rows, batch.last.tolist(), strict=True)):
        if token not in decoding.end_ids:
            row.tokens.append(token)
        if token in decoding.end_ids or len(row.tokens) == decoding.new_tokens:
            out[row.prompt].append(row.tokens)
        else:
            stay.append(place)
    if not stay:
        return None
    if len(stay) < len(batch.rows):
        batch.decoded.keep(stay)
        batch = _Batch([batch.rows[i] for i in stay], batch.decoded, batch.last[stay])
    return batch


def _joined(old: _Batch | None, new: _Batch | None) -> _Batch | None:
    if old is None or new is None:
        return new or old
    old.decoded.join(new.decoded)
    return _Batch([*old.rows, *new.rows], old.decoded, torch.cat([old.last, new.last]))


def _with_generate(
    model: Any, prompts: Sequence[Sequence[int]], decoding: Decoding, batch_size: int, samples: int
) -> list[list[list[int]]]:
    """The same by transformers' own generate, batches by length."""
    log.info("this model's cache is not a plain one; batches wait for their longest reply")
    out: list[list[list[int]]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    device = next(model.parameters()).device
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if decoding.temperature > 0:
        sampling = {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    for start in range(0, len(order), max(1, batch_size // samples)):
        part = order[start : start + max(1, batch_size // samples)]
        width = max(len(prompts[i]) for i in part)
        ids = torch.tensor([[decoding.pad_id] * (width - len(prompts[i])) + [*prompts[i]] for i in part], device=device)
        seen = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in part], device=device)
        made = model.generate(
            input_ids=ids,
            attention_mask=seen,
            max_new_tokens=decoding.new_tokens,
            eos_token_id=sorted(decoding.end_ids),
            pad_token_id=decoding.pad_id,
            num_return_sequences=samples,
            **sampling,
        )
        for row, new in enumerate(made[:, width:].tolist()):
            cut = next((at for at, token in enumerate(new) if token in decoding.end_ids), len(new))
            out[part[row // samples]].append(new[:cut])
    return out
