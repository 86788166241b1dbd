"""Many replies, ours against plain `generate`: `python -m benchmarks.rollouts [--json]`.

The plain side takes the prompts in the order in which they arrive, as many at a time as ours has rows, and each batch
waits for its longest reply. Prompts and replies have mixed lengths: questions of every kind, alone and after earlier
turns; small talk gets long replies. Same model, dtype, threads, stopping rule; greedy. `same_replies` is the share of
replies that are equal, token for token.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.report import add_common_flags, print_table
from benchmarks.shapes import DTYPES, SHAPES, build
from pocket.evaluation import ask, distinct_tasks
from pocket.tasks import SHAPES as TASKS
from spear_core.inference.generation import Request, generate
from spear_core.models.loading import load_model
from spear_core.models.prompts import encode_prompt, end_token_ids, padding_token_id

Tokens = list[list[int]]


def mixed_prompts(loaded: Any, count: int, new_tokens: int, seed: int) -> Tokens:
    """Questions of all kinds, one in three after one to three earlier turns, and things one says to a chat."""
    rng = random.Random(seed)
    questions = [t.question for shape in TASKS for t in distinct_tasks(shape, count, seed, half_known=False)]
    questions += [*loaded.settings.anchor_prompts, *loaded.settings.examples]
    out = []
    for _ in range(count):
        earlier: list[dict[str, str]] = []
        for _ in range(rng.randint(1, 3) if rng.random() < 1 / 3 else 0):
            earlier += [*ask(rng.choice(questions)), {"role": "assistant", "content": rng.choice(questions)}]
        prompt = [*earlier, *ask(rng.choice(questions))]
        out.append(encode_prompt(loaded.tokenizer, prompt, max_tokens=loaded.context_tokens - new_tokens))
    return out


@dataclass(frozen=True)
class Limits:
    """When a reply is over, and what fills up a batch of plain `generate`."""

    new_tokens: int
    end_ids: frozenset[int]
    pad_id: int


def plain(model: Any, prompts: Tokens, limits: Limits, batch_size: int) -> Tokens:
    out: Tokens = []
    device = next(model.parameters()).device
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        width = max(map(len, part))
        with torch.inference_mode():
            made = model.generate(
                input_ids=torch.tensor([[limits.pad_id] * (width - len(p)) + p for p in part], device=device),
                attention_mask=torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in part], device=device),
                max_new_tokens=limits.new_tokens,
                eos_token_id=sorted(limits.end_ids),
                pad_token_id=limits.pad_id,
                do_sample=False,
            )
        for new in made[:, width:].tolist():
            out.append(new[: next((at for at, token in enumerate(new) if token in limits.end_ids), len(new))])
    return out


def ours(model: Any, prompts: Tokens, limits: Limits, batch_size: int) -> Tokens:
    requests = [Request(prompt, limits.new_tokens, limits.end_ids) for prompt in prompts]
    return [reply.tokens for reply in generate(model, requests, batch_size=batch_size)]


def random_shape(arguments: argparse.Namespace) -> tuple[Any, Tokens, Limits]:
    """A model that has learned nothing: a tenth of all tokens end a reply, so that replies have mixed lengths too."""
    model = build(arguments.shape, arguments.device, arguments.dtype)
    rng, vocabulary = random.Random(arguments.seed), int(model.config.vocab_size)
    prompts = [[rng.randrange(vocabulary) for _ in range(rng.randint(16, 256))] for _ in range(arguments.prompts)]
    ends = frozenset(rng.sample(range(vocabulary), vocabulary // 10))
    return model, prompts, Limits(arguments.new_tokens, ends, pad_id=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.shape:
        model, prompts, limits = random_shape(arguments)
    else:
        loaded = load_model(arguments.model, device=arguments.device)
        model, tokenizer = loaded.model, loaded.tokenizer
        prompts = mixed_prompts(loaded, arguments.prompts, arguments.new_tokens, arguments.seed)
        limits = Limits(arguments.new_tokens, frozenset(end_token_ids(tokenizer)), padding_token_id(tokenizer))
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    made: dict[str, Tokens] = {}
    for side in (ours, plain):
        side(model, prompts[: arguments.batch], limits, arguments.batch)  # warm
    for _ in range(arguments.repeats):
        for side in (ours, plain):
            started = time.perf_counter()
            made[side.__name__] = side(model, prompts, limits, arguments.batch)
            if arguments.device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds[side.__name__].append(time.perf_counter() - started)
    took = {name: statistics.median(s) for name, s in seconds.items()}
    lengths = sorted(len(t) for t in made["ours"])
    tokens = sum(lengths) + len(lengths)  # with the tokens that end replies
    same = sum(a == b for a, b in zip(made["ours"], made["plain"], strict=True)) / len(prompts)
    return {
        "speedup": round(took["plain"] / took["ours"], 3),
        "same_replies": round(same, 4),
        "tokens_per_second": {name: round(tokens / s, 1) for name, s in took.items()},
        "seconds": {name: round(s, 3) for name, s in took.items()},
        "prompts": len(prompts),
        "batch": arguments.batch,
        "prompt_tokens": [min(map(len, prompts)), max(map(len, prompts))],
        "reply_tokens_p10_p50_p90_max": [lengths[int(q * (len(lengths) - 1))] for q in (0.1, 0.5, 0.9, 1)],
        "device": arguments.device,
        "shape": arguments.shape or "pocket",
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), help="random weights of this shape instead of a model folder"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16", help="of a --shape")
    parser.add_argument("--prompts", type=int, default=192)
    parser.add_argument("--batch", type=int, default=16, help="rows at a time, both sides")
    parser.add_argument("--new-tokens", type=int, default=64, help="of a reply, at most")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    figures = run(arguments)
    if arguments.json:
        print(json.dumps(figures))
    else:
        print_table(["figure", "value"], [[k, str(v)] for k, v in figures.items()])


if __name__ == "__main__":
    main()
