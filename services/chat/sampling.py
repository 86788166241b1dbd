"""Sampling settings: those of a conversation, and the defaults of a model. No decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from services.engine import Engine
from spear_core.errors import SpearError
from spear_core.inference.continuous_batching import before_stop
from spear_core.inference.generate import ReplySettings
from spear_core.inference.generation import Finish
from spear_core.inference.penalties import penalty_hook
from spear_core.models.loading import LoadedModel
from spear_core.models.prompts import encode_text

# Small models fall into loops under greedy decoding. Where the model's settings name no rule, a run of so many tokens does
# not occur twice in a reply. Shorter runs recur in good replies (lists, code).
NO_REPEAT_NGRAM = 12


@dataclass(frozen=True)
class Sampling:
    """How first replies are decoded. Raises SpearError for a value that is not allowed."""

    temperature: float = 0.0  # 0: always the most likely token
    top_p: float = 0.95
    max_new_tokens: int = 0  # 0: as many as the model's settings say
    seed: int | None = None  # of drawing; None: another draw each time
    stop: tuple[str, ...] = ()  # texts that end the reply, and are not part of it
    frequency_penalty: float = 0.0  # each time a token was said in the reply
    presence_penalty: float = 0.0  # once for a token that was said in it
    repetition_penalty: float = 1.0  # for tokens that the reply has said; 1: none
    no_repeat_ngram: int = 0  # a run of so many tokens is not said twice in a reply; 0: off

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))  # the store has lists
        if not 0 <= self.temperature <= 2:
            raise SpearError(f"The temperature must be from 0 to 2, not {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise SpearError(f"Top-p must be above 0 and at most 1, not {self.top_p}.")
        if not 0 <= self.max_new_tokens <= 100_000:
            raise SpearError("The longest reply must be 0 (as the model says) or a number of tokens above it.")
        if not all(-2 <= p <= 2 for p in (self.frequency_penalty, self.presence_penalty)):
            raise SpearError("The frequency and presence penalties must be from -2 to 2.")
        if not 1 <= self.repetition_penalty <= 2:
            raise SpearError(f"The repetition penalty must be from 1 (none) to 2, not {self.repetition_penalty}.")
        if not 0 <= self.no_repeat_ngram <= 100:
            raise SpearError(
                f"The length of runs that are not repeated must be 0 (off) to 100 tokens, not {self.no_repeat_ngram}."
            )

    @property
    def as_checked(self) -> Sampling:
        """The same ends and length, decoded as the gate decodes: greedily, and what was said before counts nothing.

        A penalty for repetition makes "Wi-Fi ... tulip42" of "Wi-Fi ... tulip-42", and other numbers of telephone numbers.
        """
        return Sampling(max_new_tokens=self.max_new_tokens, seed=self.seed, stop=self.stop)

    def settings(self, engine: Engine, banned: Sequence[list[int]] = (), begun: str = "") -> ReplySettings:
        """These settings for the decoding engine.

        Args:
            engine: gives the limits of the model that serves.
            banned: sequences of token ids that must not occur.
            begun: the text of a reply that is continued.
        """
        return ReplySettings(
            engine.loaded.context_tokens,
            self.max_new_tokens or engine.max_new_tokens,
            self.temperature,
            self.top_p,
            banned,
            self.seed,
            self.repetition_penalty,
            self.no_repeat_ngram,
            self.stop,
            penalty_hook(self.frequency_penalty, self.presence_penalty),
            begun,
        )


def cut_as_asked(text: str, sampling: Sampling, tokenizer: PreTrainedTokenizerBase) -> tuple[str, Finish]:
    """Cut an answer from memory where a decoded one would end: at a stop text, or at the longest reply allowed.

    Returns the text and the reason for its end.
    """
    shown = before_stop(text, sampling.stop)
    tokens = encode_text(tokenizer, shown)
    if sampling.max_new_tokens and len(tokens) > sampling.max_new_tokens:
        shown = str(tokenizer.decode(tokens[: sampling.max_new_tokens], skip_special_tokens=True))
        return shown.strip(), Finish.LENGTH
    return shown.strip(), Finish.ENDED if shown == text else Finish.STOP_STRING


# The types of each field of a stored Sampling. A bool is an int in Python, and is refused
_KINDS: dict[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "max_new_tokens": (int,),
    "seed": (int, type(None)),
    "stop": (list, tuple),
    "frequency_penalty": (int, float),
    "presence_penalty": (int, float),
    "repetition_penalty": (int, float),
    "no_repeat_ngram": (int,),
}


def read_sampling(said: Mapping[str, Any]) -> Sampling:
    """Check fields of Sampling given as JSON values. Raises SpearError for an unknown field or a wrong type or value."""
    for name, value in said.items():
        if name not in _KINDS:
            raise SpearError(f"{name[:80]!r} is not a sampling setting; there are: {', '.join(_KINDS)}")
        if isinstance(value, bool) or not isinstance(value, _KINDS[name]):
            raise SpearError(f"the sampling setting {name} cannot be {str(value)[:80]!r}")
    if not all(isinstance(text, str) and text for text in said.get("stop", ())):
        raise SpearError("the sampling setting stop must be a list of texts")
    if (seed := said.get("seed")) is not None and not -(2**63) <= seed < 2**63:
        raise SpearError("the sampling setting seed must be a whole number of 64 bits")
    return Sampling(**said)


def usual_sampling(loaded: LoadedModel) -> Sampling:
    """The defaults of a model: from its `spear.json`, else its generation_config, else greedy without long repetitions.

    Values out of range in a generation_config are ignored, because they were written for other programs.
    """
    if loaded.settings.sampling is not None:
        return Sampling(**loaded.settings.sampling)  # type: ignore[arg-type]
    usual, said = Sampling(), loaded.model.generation_config
    found: dict[str, Any] = {}
    if said is not None:
        found = {"repetition_penalty": said.repetition_penalty, "no_repeat_ngram": said.no_repeat_ngram_size}
        if said.do_sample:
            found |= {"temperature": said.temperature, "top_p": said.top_p}
    for name, value in found.items():
        if value is None:
            continue
        try:
            usual = replace(usual, **{name: value})
        except (SpearError, TypeError):
            continue
    has_rule = usual.repetition_penalty > 1 or usual.no_repeat_ngram > 0
    return usual if has_rule else replace(usual, no_repeat_ngram=NO_REPEAT_NGRAM)
