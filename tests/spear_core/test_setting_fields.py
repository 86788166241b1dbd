"""Settings described by annotations: what is accepted, and the words for what is not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from spear_core.errors import ConfigError
from spear_core.setting_fields import Zero, check_settings, setting_fields


@dataclass(frozen=True)
class Example:
    share: Annotated[float, Field(ge=0, lt=1), "a share"] = 0.5
    count: Annotated[int, Field(ge=0), "how many", Zero("all")] = 0
    tries: Annotated[int, Field(ge=1, le=10)] = 1
    clip: Annotated[float | None, Field(gt=0)] = None
    word: Literal["a", "b"] = "a"
    number: float = 0.0
    folder: Path | None = None
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"share": 1.0}, "x.share = 1.0 is not allowed; it must be in [0, 1)"),
        ({"share": math.nan}, "x.share = nan is not allowed; it must be in [0, 1)"),
        ({"count": -1}, "x.count = -1 is not allowed; it must be at least 0 (0: all)"),
        ({"count": True}, "x.count = True is not allowed; it must be at least 0 (0: all)"),
        ({"tries": 11}, "x.tries = 11 is not allowed; it must be 1 to 10"),
        ({"clip": 0.0}, "x.clip = 0.0 is not allowed; it must be above 0, or none"),
        ({"word": "c"}, "x.word = 'c' is not allowed; it must be a or b"),
        ({"number": math.nan}, "x.number = nan is not allowed; it must be a number"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_settings(Example(**changes), "x.")  # type: ignore[arg-type]
    assert str(refused.value) == sentence


def test_what_is_in_range_is_accepted() -> None:
    check_settings(Example(share=0, count=3, tries=10, clip=0.1, word="b", number=math.inf, folder=Path("a")), "x.")


def test_values_of_a_file_are_taken_as_the_fields_type_without_guessing() -> None:
    fields = setting_fields(Example)
    assert fields["folder"].of_kind("a") == Path("a") and fields["names"].of_kind(["a"]) == ("a",)
    assert fields["share"].of_kind(1) == 1.0 and fields["clip"].of_kind(2.5) == 2.5
    for name, value in (("share", "1"), ("count", 1.0), ("count", True), ("names", "a"), ("names", [1]), ("word", 1)):
        with pytest.raises(ValueError):
            fields[name].of_kind(value)


def test_the_meaning_says_what_zero_stands_for() -> None:
    assert setting_fields(Example)["count"].meaning == "how many; 0: all"
