"""What `spear.json` may say; that a loaded model carries it is tested with loading."""

from __future__ import annotations

from pathlib import Path

import pytest

from spear_core.errors import ConfigError, SpearError
from spear_core.models.settings import read_settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"revise_with_hnt": "{hint}"}', "unknown key revise_with_hnt; did you mean revise_with_hint?"),
        ('{"zzz": 1}', "known keys: revise_with_hint"),
        ('{"revise_with_hint": "no place"}', "must contain {hint}"),
        ('{"revise_without_hint": " "}', "not empty"),
        ('{"reads_related_only": 1}', "reads_related_only must be true or false"),
        ('{"max_new_tokens": true}', "whole number"),
        ('{"max_new_tokens": 0}', "whole number"),
        ('{"examples": "one"}', "list of texts"),
        ('{"examples": [1]}', "list of texts"),
        ('{"anchor_prompts": ["a"], "probe_prompts": ["a"]}', "both an anchor and a probe"),
        ("[]", "one JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_bad_settings_are_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "spear.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_settings(tmp_path)
    assert words in str(caught.value)
    assert isinstance(caught.value, SpearError)
