"""spear.toml: reading it into Settings, with flags on top, and writing Settings as such a file. No flags of its own."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from services.peers.settings import FederationSettings
from services.settings import AUTO, Settings
from spear_core.config import SpearConfig
from spear_core.errors import ConfigError

FILE_NAME = "spear.toml"
# Each table of the file: the field of Settings it fills, and the frozen dataclass that names its keys.
TABLES: dict[str, type] = {"spear": SpearConfig, "federation": FederationSettings}
_KINDS = {
    tuple: "a list of texts",
    str: "a text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


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
    hints = get_type_hints(keys)
    checked = {}
    for key, value in table.items():
        if key not in hints:
            raise ConfigError(f"unknown key {prefix}{key}{_suggestion(key, prefix, hints)}")
        checked[key] = _typed(f"{prefix}{key}", value, hints[key])
    return checked


def _suggestion(key: str, prefix: str, known: Iterable[str]) -> str:
    if close := difflib.get_close_matches(key, known, n=1):
        return f"; did you mean {prefix}{close[0]}?"
    for table, keys in TABLES.items():  # a key of a table at the top of the file, or the other way round
        if not prefix and key in get_type_hints(keys):
            return f"; it belongs under [{table}]"
    if prefix and key in get_type_hints(Settings):
        return f"; it belongs at the top of the file, before any [{prefix.rstrip('.')}]"
    return f"; the keys are {', '.join(known)}" if not prefix else ""


def _typed(key: str, value: Any, hint: Any) -> Any:
    """The value as the type of its field, without guessing: "8" is no number and 1 is not true."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if get_origin(hint) is dict or hint in TABLES.values():
        if isinstance(value, dict):
            return value
        raise ConfigError(f"{key} is a table; write [{key}] and its keys below it")
    if get_origin(hint) is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"{key} = {value!r} is not allowed; it must be {_KINDS[tuple]}")
    if get_origin(hint) is Literal:
        hint = str  # the dataclass says which words are allowed
    fits = {
        str: isinstance(value, str),
        Path: isinstance(value, str),
        int: isinstance(value, int) and not isinstance(value, bool),
        float: isinstance(value, int | float) and not isinstance(value, bool),
        bool: isinstance(value, bool),
    }
    if not fits[hint]:
        raise ConfigError(f"{key} = {value!r} is not allowed; it must be {_KINDS[hint]}")
    return hint(value)


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
