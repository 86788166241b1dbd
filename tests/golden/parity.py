"""Runs the cases of a golden folder through our self-play, losses and trainer, and compares. No tolerance is hidden here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from spear_core.config import PRESETS
from spear_core.training.losses import tail_mask
from spear_core.training.material import Material
from spear_core.training.self_play import play
from spear_core.training.traces import Encoded, TrainingTrace
from spear_core.training.trainer import Trainer

LOSS_TOLERANCE = 1e-3  # relative
ADAPTER_TOLERANCE = 1e-5  # absolute, per value


@dataclass(frozen=True)
class Outcome:
    """Differences of one case to the recorded figures."""

    name: str
    wins_differ: int
    loses_differ: int
    skipped_differs: bool
    win_loss: float  # relative difference
    lose_loss: float
    adapter: float  # largest absolute difference of a value

    @property
    def passed(self) -> bool:
        same = not self.wins_differ and not self.loses_differ and not self.skipped_differs
        return same and max(self.win_loss, self.lose_loss) <= LOSS_TOLERANCE and self.adapter <= ADAPTER_TOLERANCE


def _verdict(task: str, gold: str, completion: str) -> bool:
    """The cases' own rule: the first letter A-D, or for maths the letter after the last 'Answer:'."""
    letters = re.findall(r"Answer:\s*([A-D])", completion) if task == "math_mcqa" else re.findall(r"[A-D]", completion)
    if not letters:
        return False
    return bool((letters[-1] if task == "math_mcqa" else letters[0]) == gold)


def _relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / abs(theirs) if theirs else abs(ours)


def _play(case: dict[str, Any]) -> tuple[list[TrainingTrace], list[TrainingTrace]]:
    """Scripted completions take the place of sampling: the n-th answer of a task is its n-th completion."""
    return play(
        case["examples"],
        prompt=lambda e: [{"role": "user", "content": e["prompt"]}],
        answer=lambda e, attempts: e["completions"][len(attempts)],
        is_right=lambda e, reply: _verdict(case["task"], e["gold"], reply),
        feedback=lambda e, reply: e["hint"],
        num_revisions=case["spear"]["num_revisions"],
    )


def _differences(ours: Sequence[list[Any]], theirs: Sequence[list[Any]]) -> int:
    return sum(a != b for a, b in zip(ours, theirs, strict=False)) + abs(len(ours) - len(theirs))


def run_case(folder: Path, name: str, cases: dict[str, Any]) -> Outcome:
    case, optimizer = cases["cases"][name], cases["optimizer"]
    expected, spear = case["expected"], case["spear"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    base = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=getattr(torch, optimizer["dtype"]))
    model = get_peft_model(base, LoraConfig(**cases["lora"], task_type="CAUSAL_LM"))
    set_peft_model_state_dict(model, load_file(folder / "adapter_start.safetensors"))
    protected = set(cases["protected_token_ids"][case["task"]])
    end = tokenizer.eos_token_id

    def encode(trace: TrainingTrace) -> Encoded:
        prompt = tokenizer.encode(trace.prompt[-1]["content"], add_special_tokens=False)
        completion = [*tokenizer.encode(trace.completion, add_special_tokens=False), end]
        mask = (
            [True] * len(completion)
            if trace.side == "win"
            else tail_mask(completion, spear["tail_tokens"], {end}, protected)
        )
        return Encoded(tuple(prompt), tuple(completion), tuple(mask), trace.confidence)

    wins, loses = _play(case)
    config = PRESETS["paper"].replace(
        lora_dropout=cases["lora"]["lora_dropout"],
        learning_rate=optimizer["lr"],
        max_grad_norm=optimizer["max_grad_norm"],
        lambda_win=spear["lambda_win"],
        lambda_lose=spear["lambda_lose"],
        margin=spear["unlikelihood_margin"],
        tail_tokens=spear["tail_tokens"],
        max_lose_ratio=spear["max_lose_ratio"],
        num_revisions=spear["num_revisions"],
        max_steps=case["steps"],
        wins_a_step=10_000,  # every step's batch is the whole trace list
        loses_a_step=10_000,
    )
    report = Trainer(model, config, tokenizer.pad_token_id, frozenset()).train(
        Material([encode(w) for w in wins], [encode(t) for t in loses]), seed=0
    )
    trained = get_peft_model_state_dict(model)
    recorded = load_file(folder / f"adapter_after_{name}.safetensors")
    return Outcome(
        name,
        _differences([[w.prompt[-1]["content"], w.completion] for w in wins], expected["wins"]),
        _differences([[t.prompt[-1]["content"], t.completion, t.confidence] for t in loses], expected["loses"]),
        report.skipped != expected["skipped"],
        _relative(report.win_loss, expected["mean_win_loss"]),
        _relative(report.lose_loss, expected["mean_lose_loss"]),
        max(float((trained[k].float() - v.float()).abs().max()) for k, v in recorded.items()),
    )


def run_folder(folder: Path) -> list[Outcome]:
    """All cases of a golden folder (cases.json, model/, adapter_start.safetensors, adapter_after_<case>.safetensors)."""
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    return [run_case(folder, name, cases) for name in cases["cases"]]
