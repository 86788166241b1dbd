"""A run file (TOML), checked once, and the single runs that it stands for. No model, no data.

task = "pocket_open"
model = "assets/pocket-model"
algorithms = ["spear", "grpo"]
seeds = [1, 2, 3]
[data]          # train, test, seed, alpha, client_examples; `folder` comes from --data-folder
[federation]    # federation.flower.strategy.StrategySettings
[play]          # experiments.client_runtime.PlaySettings
[spear]         # spear_core.config.SpearConfig over the `paper` preset
[algorithm.grpo]  # options of one algorithm
[[variants]]    # name = "no_margin", and any of the tables above with what is to differ
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from experiments.algorithms import ALGORITHMS
from experiments.client_runtime import PlaySettings
from experiments.tasks import TASKS
from federation.flower.strategy import StrategySettings
from spear_core.config import SpearConfig, preset
from spear_core.errors import ConfigError

T = TypeVar("T")
TABLES = ("data", "federation", "play", "spear", "algorithm")


@dataclass(frozen=True)
class DataSettings:
    """How many examples, and how clients share them. `seed` draws the examples, the same for all seeds of a study.

    `worked_examples` puts solved questions before each, for models that do not follow the format instructions alone.
    `folder` holds the rows of tasks from the Hub as JSON lines (`tasks/hub.py`); empty: they come from the Hub.
    """

    train: int = 400
    test: int = 200
    seed: int = 0
    alpha: float = 1.0
    client_examples: int = 400
    worked_examples: bool = False
    folder: str = ""

    def __post_init__(self) -> None:
        for name in ("train", "test", "client_examples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} must be at least 1, not {getattr(self, name)}")
        if self.alpha <= 0:
            raise ConfigError(f"data.alpha must be above 0, not {self.alpha}")


@dataclass(frozen=True)
class Run:
    """One algorithm on one task with one seed."""

    study: str
    variant: str
    task: str
    model: str
    algorithm: str
    seed: int
    evaluate_every: int
    data: DataSettings
    federation: StrategySettings
    play: PlaySettings
    spear: SpearConfig
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"{self.study}/{self.variant}/{self.algorithm}-seed{self.seed}"

    @property
    def digest(self) -> str:
        """Of everything that decides the result; a checkpoint goes on only under the same."""
        text = json.dumps(self.record(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def record(self) -> dict[str, Any]:
        """The settings as JSON values, without the place of the data, which is another one on each machine."""
        values = dataclasses.asdict(self)
        del values["data"]["folder"]
        return values


def read_runs(file: Path) -> list[Run]:
    """The runs of a file, seed by seed. Raises ConfigError with one line that names the key."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"{file} cannot be read as TOML: {e}") from e
    try:
        return _runs(file.stem, values)
    except (ConfigError, ValueError, TypeError) as e:
        raise ConfigError(f"{file.name}: {e}") from e


def _runs(study: str, values: dict[str, Any]) -> list[Run]:
    known = ("task", "model", "algorithms", "seeds", "evaluate_every", "variants", *TABLES)
    _refuse_unknown(values, known, "")
    variants = values.pop("variants", [{}])
    runs: list[Run] = []
    for seed in values.get("seeds", [1]):
        for variant in variants:
            _refuse_unknown(variant, ("name", "algorithms", "task", "model", *TABLES), "variants.")
            merged = {**values, **{k: v for k, v in variant.items() if k in ("algorithms", "task", "model")}}
            for table in TABLES:
                merged[table] = _merged(values.get(table, {}), variant.get(table, {}))
            for algorithm in merged["algorithms"]:
                runs.append(_run(study, variant.get("name", "main"), merged, algorithm, seed))
    return runs


def _run(study: str, variant: str, values: Mapping[str, Any], algorithm: str, seed: int) -> Run:
    for name, choices in ((values["task"], TASKS), (algorithm, ALGORITHMS)):
        if name not in choices:
            raise ConfigError(f"{name!r} is unknown; there are: {', '.join(choices)}")
    options = values["algorithm"].get(algorithm, {})
    ALGORITHMS[algorithm](options)  # unknown options are refused now, not after an hour
    return Run(
        study=study,
        variant=variant,
        task=values["task"],
        model=values["model"],
        algorithm=algorithm,
        seed=seed,
        evaluate_every=values.get("evaluate_every", 1),
        data=_settings(DataSettings, values["data"], "data"),
        federation=_settings(StrategySettings, values["federation"], "federation"),
        play=_settings(PlaySettings, values["play"], "play"),
        spear=preset("paper", **values["spear"]),
        options=options,
    )


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {**under, **over}
    for key, value in both.items():
        if isinstance(under.get(key), dict) and isinstance(value, dict):
            both[key] = _merged(under[key], value)
    return both


def _settings(kind: type[T], values: Mapping[str, Any], table: str) -> T:
    _refuse_unknown(values, [f.name for f in dataclasses.fields(kind)], f"{table}.")  # type: ignore[arg-type]
    return kind(**values)


def _refuse_unknown(values: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, list(known), n=1)
            raise ConfigError(f"unknown key {where}{key}" + (f"; did you mean {close[0]}?" if close else ""))
