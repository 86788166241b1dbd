"""What a model folder may say about itself in `spear.json`. Nothing is loaded here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from spear_core.config import PRESETS
from spear_core.errors import ConfigError, one_line
from spear_core.models.starter_prompts import ANCHOR_PROMPTS, ANCHOR_REVISIONS, PROBE_PROMPTS

SETTINGS_FILE = "spear.json"
SAMPLING_KEYS = frozenset({"temperature", "top_p", "repetition_penalty", "no_repeat_ngram"})


@dataclass(frozen=True)
class ModelSettings:
    """What a model folder may say about itself in `spear.json`; everything is optional.

    Attributes:
        revise_with_hint: what the user's turn says when a revision is asked for; must contain `{hint}`.
        revise_without_hint: the same when there is no hint.
        revise_by_request_only: whether revisions are always asked for with these two requests and answered once, for a
            model that was trained on them; else a hint's words are read (spear_core/inference/stated_answers.py).
        reads_related_only: whether a question that stands alone is asked with only those earlier exchanges that have to do
            with it (spear_core/inference/recall.py), and a revision too, for a small model that copies what it has read.
        max_new_tokens: the longest reply, in tokens.
        preset: how this model learns (spear_core/config.py); empty: by its depth.
        examples: questions that an empty chat offers.
        anchor_prompts: prompts on which training holds the model to its earlier answers.
        anchor_revisions: (prompt, hint) pairs: how the model revises its answer to the prompt is held too, so that it goes
            on following hints.
        probe_prompts: prompts on which the gate measures drift; none of them may be an anchor, or the gate would
            measure what training has been told to keep.
        prompt_kinds: anchor or probe prompt -> its kind, such as "facts" or "arithmetic", so that drift can be measured for
            each kind apart. `spear.json` says it by writing either list of prompts as an object: {"facts": [...], ...}.
        sampling: how replies are drawn where a conversation chooses nothing: `temperature`, `top_p`, `repetition_penalty`,
            `no_repeat_ngram`; by default as the model's generation_config says.

    Raises:
        ConfigError: for a value of the wrong kind or out of range.
    """

    revise_with_hint: str = "Please improve your answer. Hint: {hint}\nReply with the improved answer only."
    revise_without_hint: str = "Please improve your answer.\nReply with the improved answer only."
    revise_by_request_only: bool = False
    reads_related_only: bool = False
    max_new_tokens: int = 512
    preset: str = ""
    examples: tuple[str, ...] = (
        "What is the capital of Australia?",
        "Explain photosynthesis in two sentences.",
        "Write a polite reply that declines an invitation.",
    )
    anchor_prompts: tuple[str, ...] = ANCHOR_PROMPTS
    anchor_revisions: tuple[tuple[str, str], ...] = ANCHOR_REVISIONS
    probe_prompts: tuple[str, ...] = PROBE_PROMPTS
    prompt_kinds: Mapping[str, str] = field(default_factory=dict, hash=False)
    sampling: Mapping[str, float] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        for name in ("revise_with_hint", "revise_without_hint"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ConfigError(f"{name} must be a text that is not empty")
        if "{hint}" not in self.revise_with_hint:
            raise ConfigError("revise_with_hint must contain {hint}, the place where the hint goes")
        for name in ("revise_by_request_only", "reads_related_only"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"{name} must be true or false")
        if type(self.max_new_tokens) is not int or self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be a whole number from 1 up, not {self.max_new_tokens!r}")
        if self.preset not in ("", *PRESETS):
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, not {self.preset!r}")
        for name in ("examples", "anchor_prompts", "probe_prompts"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(text, str) for text in value):
                raise ConfigError(f"{name} must be a list of texts")
        if not all(
            isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
            for pair in self.anchor_revisions
        ):
            raise ConfigError("anchor_revisions must be a list of pairs: a prompt and a hint")
        if self.sampling is not None and not (
            isinstance(self.sampling, Mapping)
            and set(self.sampling) <= SAMPLING_KEYS
            and all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.sampling.values())
        ):
            raise ConfigError(f"sampling must be an object of numbers; its keys are {', '.join(sorted(SAMPLING_KEYS))}")
        if both := set(self.anchor_prompts) & set(self.probe_prompts):
            raise ConfigError(f"{min(both)!r} is both an anchor and a probe; keep it in one of the two lists")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ModelSettings:
        """Build from JSON values; lists become tuples.

        Raises:
            ConfigError: for a key that is not a setting, with the nearest one that is, or for a bad value.
        """
        known = [field.name for field in fields(cls) if field.name != "prompt_kinds"]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                advice = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
                raise ConfigError(f"unknown key {key}; {advice}")
        kinds: dict[str, str] = {}
        flat = dict(values)
        for key in ("anchor_prompts", "probe_prompts"):
            if isinstance(by_kind := values.get(key), dict):
                if not all(isinstance(prompts, list) for prompts in by_kind.values()):
                    raise ConfigError(f"{key} must be a list of texts, or such a list for each kind")
                flat[key] = [prompt for prompts in by_kind.values() for prompt in prompts]
                kinds |= {str(prompt): kind for kind, prompts in by_kind.items() for prompt in prompts}
        return cls(**{key: _as_tuples(value) for key, value in flat.items()}, prompt_kinds=kinds)


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def read_settings(folder: Path) -> ModelSettings:
    """The settings in `spear.json`, or the defaults where there is none.

    Raises:
        ConfigError: if the file is not a JSON object, or has an unknown key or a bad value.
    """
    file = folder / SETTINGS_FILE
    if not file.is_file():
        return ModelSettings()
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"{file} is not JSON ({one_line(e)}); correct it or remove it") from e
    if not isinstance(values, dict):
        raise ConfigError(f"{file} must hold one JSON object")
    try:
        return ModelSettings.from_mapping(values)
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from e
