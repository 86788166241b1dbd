"""Whether a question asks for the same thing as a taught one, by a small classifier on the base model's lower layers.

The scope classifier of SERAC (Mitchell et al., arXiv 2206.06520) for one base model: it reads the taught question and the
asked one together in the lower layers of the base model with a LoRA and a linear head of its own, a few megabytes in one
file beside the model. It tells "What is my dog called?" from "What do I call my cat?", which similarity cannot.
`experiments/scope_classifier.py` trains it, on question families written for this project.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from spear_core.errors import ConfigError, one_line
from spear_core.inference.scope import Taught
from spear_core.models.decoder_layers import layer_list, layers_of
from spear_core.models.lora_dtype import cast_lora
from spear_core.models.prompts import encode_text
from spear_core.models.shared_base import share_base
from spear_core.training.neighbours import words_of

FILE = "scope.safetensors"
MAX_TOKENS = 96  # of each question that are read; the last ones of a longer message
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MOST_RANK = 256  # of the LoRA in a file
REMEMBERED = 32_768  # pairs whose odds are kept: a round asks for some 300, of a thousand corrections 20,000 in turn
READ_TOGETHER = 16  # pairs
FIRST_PERSON = frozenset(("i", "my", "mine", "we", "our", "ours"))  # not "me": "tell me about cats"
# Of the families that were held out, questions about the person are told apart better than others, and a question that
# names nobody is more often about the thing in general: with these, of each kind 5 to 9 of 100 neighbours are in scope
BOTH_PERSONAL = 0.5
IMPERSONAL = -1.0
_HEAD = "head"


class ScopeClassifier(nn.Module):
    """Reads two questions, gives the log-odds that they ask for the same thing. Reading is thread-safe.

    Args:
        backbone: decoder of the base model, without an adapter; its parameters are shared, never changed.
        tokenizer: the model's.
        layers: of the decoder, counted from below, that are run.
        frozen: of them, the lowest, that have no LoRA: training need not go back through them.
        rank: of the LoRA in the others.
    """

    def __init__(
        self, backbone: nn.Module, tokenizer: PreTrainedTokenizerBase, layers: int, frozen: int, rank: int
    ) -> None:
        super().__init__()
        found = layer_list(backbone)
        if found is None:
            raise ConfigError("the layers of this model cannot be told apart")
        self.layers, self.frozen, self.rank = layers, frozen, rank
        tree = share_base(backbone)
        setattr(tree, found[0], nn.ModuleList(list(getattr(tree, found[0]))[:layers]))
        own: Any = tree.config  # the tree's own configuration, as all of it but the weights
        own.num_hidden_layers = layers
        own._attn_implementation = "eager"  # the fused kernel's backward pass is slow on short rows
        config = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules=list(TARGETS),
            layers_to_transform=list(range(frozen, layers)),
            layers_pattern=found[0],
            bias="none",
        )
        self.model = get_peft_model(tree, config)
        cast_lora(self.model)
        self.head = nn.Linear(own.hidden_size, 1, dtype=torch.float32, device=self.model.device)
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, str], float] = {}  # the oldest first: the gate asks the same pairs every round

    def forward(self, pairs: Sequence[tuple[str, str]]) -> Tensor:
        """(N,) log-odds of (taught question, asked question)."""
        rows = [self._ids(taught, asked) for taught, asked in pairs]
        longest, device = max(map(len, rows)), self.head.weight.device
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(longest, device=device)[None] < lengths[:, None]
        states = self.model(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
        last = states[torch.arange(len(rows), device=device), lengths - 1]
        logits: Tensor = self.head(last.float())[:, 0]
        return logits

    def scores(self, question: str, taught: Sequence[Taught]) -> list[float]:
        """Log-odds that the question asks for the same thing as each taught one, and a correction for those about the person.

        Where a taught one is about the person ("my cat") and this one names nobody, it is often about the thing in general
        ("What is a cat?").
        """
        odds = self.odds([t.question for t in taught], question)
        correction = BOTH_PERSONAL if _is_personal(question) else IMPERSONAL
        return [o + correction * _is_personal(t.question) for o, t in zip(odds, taught, strict=True)]

    def read(self, asked: Mapping[str, Sequence[Taught]]) -> None:
        """Read what is not remembered."""
        self._read((t.question, question) for question, taught in asked.items() for t in taught)

    @torch.no_grad()
    def _read(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """The log-odds of (taught, asked), the mean of both orders; READ_TOGETHER new pairs at a time, by length."""
        known = self._known  # others read and forget meanwhile
        asked = dict.fromkeys(pairs)
        found = {pair: odds for pair in asked if (odds := known.get(pair)) is not None}
        new = sorted((pair for pair in asked if pair not in found), key=lambda p: len(p[0]) + len(p[1]))
        for start in range(0, len(new), READ_TOGETHER):
            part = new[start : start + READ_TOGETHER]
            both = self([*part, *((asked, taught) for taught, asked in part)]).tolist()
            read = {pair: (both[i] + both[len(part) + i]) / 2 for i, pair in enumerate(part)}
            found |= read
            known |= read
        return found

    def odds(self, taught: Sequence[str], asked: str) -> list[float]:
        """Log-odds that `asked` asks for the same thing as each taught question; both are read first once."""
        found = self._read((t, asked) for t in taught)
        known = self._known
        if len(known) > REMEMBERED:
            for pair in list(known)[: len(known) - REMEMBERED]:
                known.pop(pair, None)
        return [found[t, asked] for t in taught]

    def forget(self) -> None:
        """Drop what is kept in memory of the questions that were compared."""
        self._known = {}

    def save(self, file: Path, metadata: dict[str, Any]) -> None:
        """Write the LoRA and the head, in bfloat16, with what is to be known about them."""
        sizes = {"layers": self.layers, "frozen": self.frozen, "rank": self.rank}
        told = {key: json.dumps(value) for key, value in {**metadata, **sizes}.items()}
        tensors = {
            **get_peft_model_state_dict(self.model),
            **{f"{_HEAD}.{k}": v for k, v in self.head.state_dict().items()},
        }
        save_file({k: v.detach().to(torch.bfloat16).contiguous() for k, v in tensors.items()}, file, told)

    def _ids(self, first: str, second: str) -> list[int]:
        ids = [self._start()]
        for text in (first, second):
            ids += [*encode_text(self._tokenizer, text.strip())[-MAX_TOKENS:], *encode_text(self._tokenizer, "\n")]
        return ids

    def _start(self) -> int:
        """A first token that all rows have: much of the attention of later ones goes there."""
        bos = self._tokenizer.bos_token_id
        return int(self._tokenizer.eos_token_id if bos is None else bos)


def load_scope_classifier(file: Path, backbone: nn.Module, tokenizer: PreTrainedTokenizerBase) -> ScopeClassifier:
    """Read what `save` wrote. Raises ConfigError where it does not belong to this model or is damaged."""
    try:
        with safe_open(file, "pt") as opened:
            told = {key: json.loads(value) for key, value in (opened.metadata() or {}).items()}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no dict)
        with torch.random.fork_rng(devices=[]):
            layers, frozen, rank = (int(told[key]) for key in ("layers", "frozen", "rank"))
            if not 0 <= frozen < layers <= len(layers_of(backbone)) or not 1 <= rank <= MOST_RANK:
                raise ConfigError(f"{file} is not of this model")
            made = ScopeClassifier(backbone, tokenizer, layers, frozen, rank)
        head = {name.partition(".")[2]: tensors.pop(name).float() for name in list(tensors) if name.startswith(_HEAD)}
        made.head.load_state_dict(head)
        if get_peft_model_state_dict(made.model).keys() != tensors.keys():
            raise ConfigError(f"{file} is not of this model")
        set_peft_model_state_dict(made.model, tensors)
        for name, parameter in made.model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.to(next(backbone.parameters()).dtype)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as e:
        raise ConfigError(f"{file} cannot be used: {one_line(e)}") from e
    made.requires_grad_(False).eval()
    return made


def _is_personal(question: str) -> bool:
    return not FIRST_PERSON.isdisjoint(word.partition("'")[0] for word in words_of(question))
