"""Whether a message corrects the reply before it, by what the base model makes of it: a linear classifier, no training here.

Once the model has read question, reply and message, its hidden states tell whether it was corrected better than the words do:
"thats bad advice, they need acid soil" has none of the usual openings. The states that enter one of its layers, of the last
token and as the means of the last few and of the message, and how strong the sign by the words is (corrections.py) make the
log-odds. The weights are a few kilobytes in a file beside the model; `experiments/correction_classifier.py` fits them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from spear_core.errors import ConfigError, one_line
from spear_core.inference.corrections import FollowUp, Sign
from spear_core.models.prompts import encode_prompt
from spear_core.training.traces import Encoded
from spear_core.training.trunk import Trunk, TrunkCache

FILE = "corrections.safetensors"
LAST_TOKENS = 6  # of the prompt, whose mean is looked at; the template's after the message are among them
REPLY_WORDS = 60  # of a long reply that are read
MAX_TOKENS = 512
STATES = 3  # vectors of a follow-up, one after the other


@dataclass(frozen=True)
class Least:
    """Log-odds from which on a message is taken for a correction, by the sign of its words.

    Attributes:
        none: where the words show none.
        weak: where they may.
        strong: where they do.
    """

    none: float
    weak: float
    strong: float


class FollowUpStates:
    """The hidden states of one base model after a message. Nothing is kept. Thread-safe.

    Args:
        backbone: decoder of the base model, without an adapter.
        tokenizer: the model's.
        layer: whose input is looked at, counted from 0; at least 1.

    Raises:
        ValueError: for a backbone that cannot be cut there.
    """

    def __init__(self, backbone: nn.Module, tokenizer: PreTrainedTokenizerBase, layer: int) -> None:
        self.layer = layer
        self._trunk = Trunk(backbone, layer, TrunkCache(0))
        self._tokenizer = tokenizer
        self._after = _tokens_after(tokenizer)

    def __call__(self, follow_up: FollowUp) -> Tensor:
        """(STATES H,), float32: of the last token, the mean of the LAST_TOKENS last ones, and that of the message's tokens."""
        ids = encode_prompt(
            self._tokenizer,
            [
                {"role": "user", "content": follow_up.question},
                {"role": "assistant", "content": " ".join(follow_up.reply.split()[:REPLY_WORDS])},
                {"role": "user", "content": follow_up.message},
            ],
            max_tokens=MAX_TOKENS,
        )
        states = self._trunk.states(Encoded(tuple(ids), (), ())).float().cpu()
        self._trunk.cache.drop()
        end = len(ids) - self._after
        length = len(self._tokenizer(follow_up.message, add_special_tokens=False)["input_ids"])
        said = states[max(end - max(length, 1), 0) : end]
        return torch.cat([states[-1], states[-LAST_TOKENS:].mean(0), said.mean(0)])


def _tokens_after(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens of a prompt follow those of its last message."""
    with_a, with_b = (
        encode_prompt(tokenizer, [{"role": "user", "content": said}], max_tokens=MAX_TOKENS) for said in "ab"
    )
    return next(i for i, (a, b) in enumerate(zip(with_a[::-1], with_b[::-1], strict=False)) if a != b)


class CorrectionClassifier:
    """Gives the log-odds that a message is a correction.

    Args:
        states: of the base model.
        weight: (STATES H,), of the states.
        of_sign: (3,), what each `Sign` by the words adds.
        least: log-odds from which on a message is taken for one.
    """

    def __init__(self, states: FollowUpStates, weight: Tensor, of_sign: Tensor, least: Least) -> None:
        self.states, self.weight, self.of_sign, self.least = states, weight, of_sign, least

    def odds(self, follow_up: FollowUp, sign: Sign) -> float:
        """Log-odds that the message corrects the reply; `sign` is that of its words."""
        return float(self.states(follow_up) @ self.weight + self.of_sign[sign])

    def is_correction(self, follow_up: FollowUp, sign: Sign) -> bool:
        """Whether the message is taken for a correction; `sign` is that of its words."""
        return takes(self.least, self.odds(follow_up, sign), sign)

    def save(self, file: Path) -> None:
        """Write the weights, in float32."""
        told = {"layer": json.dumps(self.states.layer), "least": json.dumps(asdict(self.least))}
        save_file(
            {"weight": self.weight.float().contiguous(), "of_sign": self.of_sign.float().contiguous()}, file, told
        )


def takes(least: Least, odds: float, sign: Sign) -> bool:
    """The rule of `CorrectionClassifier.is_correction`."""
    return odds >= (least.none, least.weak, least.strong)[sign]


def load_correction_classifier(
    file: Path, backbone: nn.Module, tokenizer: PreTrainedTokenizerBase
) -> CorrectionClassifier:
    """Read what `save` wrote. Raises ConfigError where it does not belong to this model or is damaged."""
    try:
        with safe_open(file, "pt") as opened:
            told = {key: json.loads(value) for key, value in (opened.metadata() or {}).items()}
            weight, of_sign = opened.get_tensor("weight"), opened.get_tensor("of_sign")
        states = FollowUpStates(backbone, tokenizer, int(told["layer"]))
        least = Least(**{name: float(value) for name, value in told["least"].items()})
        hidden = int(backbone.config.hidden_size)  # type: ignore[union-attr,arg-type]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as e:
        raise ConfigError(f"{file} cannot be used: {one_line(e)}") from e
    if weight.shape != (STATES * hidden,) or of_sign.shape != (len(Sign),):
        raise ConfigError(f"{file} is not of this model")
    return CorrectionClassifier(states, weight.float(), of_sign.float(), least)


def fit(states: Sequence[Tensor], signs: Sequence[Sign], truth: Sequence[bool], decay: float) -> tuple[Tensor, Tensor]:
    """The weights of `CorrectionClassifier` by logistic regression on standardised states.

    Args:
        states: of the follow-ups, each (STATES H,).
        signs: of their words.
        truth: whether each is a correction.
        decay: factor on the sum of the squared weights.

    Returns:
        `weight` (STATES H,) and `of_sign` (3,).
    """
    x = torch.stack(list(states))
    mean, scale = x.mean(0), x.std(0) + 1e-6
    rows = torch.cat([(x - mean) / scale, torch.nn.functional.one_hot(torch.tensor(signs), len(Sign)).float()], -1)
    wanted = torch.tensor(truth, dtype=torch.float32)
    weight, bias = torch.zeros(rows.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = nn.functional.binary_cross_entropy_with_logits(rows @ weight + bias, wanted)
        total: Tensor = found + decay * (weight * weight).sum()
        total.backward()
        return total

    optimiser.step(loss)
    of_states, of_sign = weight.detach()[: x.shape[1]], weight.detach()[x.shape[1] :]
    return of_states / scale, of_sign + bias.detach() - (mean / scale) @ of_states
