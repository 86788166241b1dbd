"""Settings whose fields say what they may hold: `margin: Annotated[float, Field(ge=0, lt=1), "what it means"] = 0.3`.

The checks, the error sentences, docs/SETTINGS.md and `--help` are made from these annotations. No settings are defined here.
"""

from __future__ import annotations

import math
import types
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from spear_core.errors import ConfigError

_KINDS: dict[Any, str] = {
    tuple: "a list of texts",
    str: "a text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


@dataclass(frozen=True)
class Zero:
    """In an annotation: what the value 0 stands for, such as "never"."""

    meaning: str


@dataclass(frozen=True)
class SettingField:
    """One field of a class of settings, as its annotation describes it.

    Attributes:
        name: of the field, which is the key in a file.
        hint: the plain type, without None where the field is optional.
        meaning: for documentation; one phrase.
        allowed: what a value of the right type must be, such as "in [0, 1)"; "" where any value will do.
        annotation: the whole annotation, with the range.
    """

    name: str
    hint: Any
    meaning: str
    allowed: str
    annotation: Any

    @property
    def kind(self) -> str:
        """The type in words, such as "a whole number"."""
        return _KINDS[str if get_origin(self.hint) is Literal else get_origin(self.hint) or self.hint]

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation)

    def accepts(self, value: Any) -> bool:
        """Whether the value has the type and the range. NaN is no number."""
        if isinstance(value, float) and math.isnan(value):
            return False
        try:
            self._adapter.validate_python(value, strict=True)
        except ValidationError:
            return False
        return True

    def of_kind(self, value: Any) -> Any:
        """A value from a TOML or JSON file as the type of the field, without guessing: "8" is no number, 1 is not true.

        Raises:
            ValueError: for a value of another type. The range is not checked.
        """
        plain = str if get_origin(self.hint) is Literal else self.hint
        exact = plain in (str, int, float, bool)  # files know neither paths nor tuples
        return TypeAdapter(plain).validate_python(value, strict=exact)


@cache
def setting_fields(settings: Any) -> dict[str, SettingField]:
    """The fields of a dataclass of settings (the class, not an instance), by name, in their order."""
    plain = get_type_hints(settings)
    return {
        name: _field(name, plain[name], hint) for name, hint in get_type_hints(settings, include_extras=True).items()
    }


def check_settings(settings: Any, prefix: str) -> None:
    """Raises ConfigError for the first field whose value has the wrong type or is out of range; `prefix` precedes its name."""
    if wrong := first_wrong(settings):
        name, allowed = wrong
        raise ConfigError(f"{prefix}{name} = {getattr(settings, name)!r} is not allowed; it must be {allowed}")


def first_wrong(settings: Any) -> tuple[str, str] | None:
    """The first field whose value is not allowed, and what it must be; None where all are."""
    kind: Any = type(settings)
    for name, field in setting_fields(kind).items():
        if not field.accepts(getattr(settings, name)):
            return name, field.allowed or field.kind
    return None


def _field(name: str, plain: Any, annotation: Any) -> SettingField:
    extra = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    optional = get_origin(plain) in (Union, types.UnionType)
    if optional:
        plain = next(part for part in get_args(plain) if part is not type(None))
    meaning = "".join(part for part in extra if isinstance(part, str))
    allowed = _allowed(plain, [bound for part in extra if isinstance(part, FieldInfo) for bound in part.metadata])
    for part in extra:
        if isinstance(part, Zero):
            allowed, meaning = f"{allowed} (0: {part.meaning})", f"{meaning}; 0: {part.meaning}"
    return SettingField(name, plain, meaning, f"{allowed}, or none" if optional and allowed else allowed, annotation)


def _allowed(hint: Any, bounds: list[Any]) -> str:
    """The range in words."""
    if get_origin(hint) is Literal:
        *others, last = get_args(hint)
        return f"{others[0]} or {last}" if len(others) == 1 else ", ".join([*others, last])
    low = high = above = below = ""
    for bound in bounds:
        if isinstance(bound, annotated_types.Ge):
            low, above = f"[{bound.ge:g}", f"at least {bound.ge:g}"
        elif isinstance(bound, annotated_types.Gt):
            low, above = f"({bound.gt:g}", f"above {bound.gt:g}"
        elif isinstance(bound, annotated_types.Le):
            high, below = f"{bound.le:g}]", f"at most {bound.le:g}"
        elif isinstance(bound, annotated_types.Lt):
            high, below = f"{bound.lt:g})", f"below {bound.lt:g}"
    if not (low and high):
        return above or below
    if hint is int and low[0] == "[" and high[-1] == "]":
        return f"{low[1:]} to {high[:-1]}"
    return f"in {low}, {high}"
