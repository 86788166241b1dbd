"""The flags of `app.py` and the tables of docs/SETTINGS.md, made from the annotations of the settings.

`python -m cli.settings_docs` updates the tables; the text around them is written by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_origin

from services.peers.settings import FederationSettings
from services.settings import Settings
from services.settings_file import DEFAULTS, TABLES
from spear_core.config import PRESETS, SpearConfig
from spear_core.setting_fields import SettingField, setting_fields

PAGE = Path(__file__).resolve().parents[1] / "docs" / "SETTINGS.md"
REPEATABLE = {"trusted_proxies": ("--trusted-proxy", "ADDRESS"), "peers": ("--peer", "URL#KEY")}
FEDERATION_FLAGS = ("peers", "sync_every")
_TABLE = re.compile(r"(\| key \|[^\n]*\n\|[-|]+\|\n)(?:\|[^\n]*\n)*")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for each key at the top of the file, and for FEDERATION_FLAGS, with its meaning and default as help."""
    defaults = _top_defaults()
    for field in _top_fields():
        _add_flag(parser, field, defaults[field.name])
    circle = setting_fields(FederationSettings)
    for name in FEDERATION_FLAGS:
        _add_flag(parser, circle[name], getattr(FederationSettings(), name))


def _add_flag(parser: argparse.ArgumentParser, field: SettingField, default: Any) -> None:
    meaning = field.meaning.replace("`", "").replace("%", "%%")
    if get_origin(field.hint) is tuple:
        flag, metavar = REPEATABLE[field.name]
        parser.add_argument(flag, action="append", dest=field.name, metavar=metavar, help=meaning)
        return
    flag = "--" + field.name.replace("_", "-")
    if field.hint is bool:
        parser.add_argument(flag, action="store_true", help=meaning)
    else:
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(flag, type=field.hint, help=f"{meaning}{shown}")


def page(text: str) -> str:
    """The text of docs/SETTINGS.md with the rows of its three tables as the settings say."""
    rows = iter((_top_rows(), _spear_rows(), _federation_rows()))
    return _TABLE.sub(lambda table: table[1] + "".join(f"| {' | '.join(row)} |\n" for row in next(rows)), text)


def _top_fields() -> list[SettingField]:
    return [field for name, field in setting_fields(Settings).items() if name not in TABLES]


def _top_defaults() -> dict[str, Any]:
    settings = Settings(**DEFAULTS)
    return {field.name: getattr(settings, field.name) for field in _top_fields()}


def _top_rows() -> list[list[str]]:
    defaults = _top_defaults()
    return [[f"`{f.name}`", _shown(defaults[f.name]), f.meaning] for f in _top_fields()]


def _spear_rows() -> list[list[str]]:
    presets = [PRESETS[name] for name in ("live", "general", "paper")]
    return [
        [f"`{name}`", *(_shown(getattr(preset, name)) for preset in presets), field.meaning]
        for name, field in setting_fields(SpearConfig).items()
    ]


def _federation_rows() -> list[list[str]]:
    fields = setting_fields(FederationSettings)
    return [[f"`{f.name}`", _shown(f.default), fields[f.name].meaning] for f in dataclasses.fields(FederationSettings)]


def _shown(value: Any) -> str:
    """A default as TOML writes it."""
    if value is None:
        return "not set"
    if isinstance(value, float):
        return f"`{value!r}`"
    return (
        f"`{json.dumps(list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value)}`"
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
