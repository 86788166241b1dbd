"""Reads spear.toml into Settings, with flags taking precedence, and writes Settings as such a file."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from services.models import built_in
from services.peers.settings import FederationSettings
from services.settings import AUTO, Settings
from spear_core.config import SpearConfig
from spear_core.errors import ConfigError
from spear_core.setting_fields import SettingField, setting_fields

FILE_NAME = "spear.toml"
# Each table of the file: the field of Settings it fills, and the frozen dataclass that names its keys.
TABLES: dict[str, type] = {"spear": SpearConfig, "federation": FederationSettings}
DEFAULTS: dict[str, Any] = {"model": built_in.AUTO, "data_folder": Path("data")}  # of the two keys without one


def read_settings(file: Path | None, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Settings:
    """The settings of `file` (None for no file) over `defaults`, and `given` (flags, environment) over both.

    Raises ConfigError, with one sentence, for a file that cannot be read, a key that does not exist or a value that is
    not allowed; FederationError for an address of a peer.
    """
    read = _read(file) if file else {}
    federation = FederationSettings(**{**read.pop("federation", {}), **given.get("federation", {})})
    return Settings(**{**defaults, **read, **given, "federation": federation})


def _read(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise ConfigError(f"the settings file {file} cannot be read ({e.strerror}); check the path") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"the settings file {file} is not valid TOML: {e}") from e
    try:
        settings = _checked(content, Settings, "")
        for table, keys in TABLES.items():
            if table in settings:
                settings[table] = _checked(settings[table], keys, f"{table}.")
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from e
    return settings


def _checked(table: Mapping[str, Any], keys: type, prefix: str) -> dict[str, Any]:
    """The table's values in the types of the dataclass `keys`. Raises ConfigError for an unknown key or wrong type."""
    fields = setting_fields(keys)
    checked = {}
    for key, value in table.items():
        if key not in fields:
            raise ConfigError(f"unknown key {prefix}{key}{_suggestion(key, prefix, fields)}")
        checked[key] = _typed(f"{prefix}{key}", value, fields[key])
    return checked


def _suggestion(key: str, prefix: str, known: Iterable[str]) -> str:
    if close := difflib.get_close_matches(key, known, n=1):
        return f"; did you mean {prefix}{close[0]}?"
    for table, keys in TABLES.items():  # a key of a table at the top of the file, or the other way round
        if not prefix and key in setting_fields(keys):
            return f"; it belongs under [{table}]"
    if prefix and key in setting_fields(Settings):
        return f"; it belongs at the top of the file, before any [{prefix.rstrip('.')}]"
    return f"; the keys are {', '.join(known)}" if not prefix else ""


def _typed(key: str, value: Any, field: SettingField) -> Any:
    """The value as the type of its field; which words or numbers are allowed is checked by the dataclass."""
    if field.name in TABLES:
        if isinstance(value, dict):
            return value
        raise ConfigError(f"{key} is a table; write [{key}] and its keys below it")
    try:
        return field.of_kind(value)
    except ValueError as e:
        raise ConfigError(f"{key} = {value!r} is not allowed; it must be {field.kind}") from e


def as_toml(settings: Settings) -> str:
    """The effective settings, every key of every table written out, as a file that reads back to the same."""
    top = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in TABLES}
    lines = [f"{key} = {_value(value)}" if value is not None else f"# {key} is not set" for key, value in top.items()]
    lines += ["", f"[spear]  # preset {settings.preset} and what was changed in it"]
    # `auto` is decided when the model is known: written out, one model's values would become every model's
    keys = settings.spear if settings.preset == AUTO else dataclasses.asdict(settings.config())
    lines += [f"{key} = {_value(value)}" for key, value in keys.items()]
    lines += ["", "[federation]  # peers, docs/FEDERATION.md"]
    for key, value in dataclasses.asdict(settings.federation).items():
        lines.append(f"{key} = {_value(value)}" if value is not None else f"# {key} is not set")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)  # inf and nan are TOML too
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
