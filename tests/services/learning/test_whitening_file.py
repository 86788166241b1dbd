"""What compares questions is computed once a data folder and base model, and again where its file cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import services.learning.scope as scope_module
import spear_core.inference.scope as inference_module
from services.learning.whitening_file import FOLDER, read_whitening, whitening_path, write_whitening
from tests.services.conftest import OpenBench

BOTH = torch.arange(4.0), torch.eye(4)


def test_what_was_written_is_read_to_the_last_bit(tmp_path: Path) -> None:
    path = whitening_path(tmp_path, "base-a", ["What is an owl?"])
    assert read_whitening(path, 4) is None
    write_whitening(path, BOTH)
    found = read_whitening(path, 4)
    assert found is not None and all(torch.equal(was, now) for was, now in zip(BOTH, found, strict=True))
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    others = (whitening_path(tmp_path, "base-b", ["What is an owl?"]), whitening_path(tmp_path, "base-a", ["Hello"]))
    assert len({path, *others}) == 3


@pytest.mark.parametrize("broken", ["text", "shape", "missing", "nan", "half"])
def test_a_file_that_cannot_be_used_is_as_good_as_none(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "file.safetensors"
    mean, map_ = BOTH
    contents = {
        "shape": {"mean": mean, "map": torch.eye(3)},
        "missing": {"mean": mean},
        "nan": {"mean": mean, "map": map_ * torch.nan},
        "half": {"mean": mean.half(), "map": map_.half()},
    }
    if broken == "text":
        path.write_text("not tensors")
    else:
        save_file(contents[broken], path)
    assert read_whitening(path, 4) is None


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file")
    write_whitening(whitening_path(tmp_path, "base-a", []), BOTH)
    assert (tmp_path / FOLDER).read_text() == "a file"


def test_the_next_start_computes_nothing(open_app: OpenBench, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    real = inference_module.whiten
    monkeypatch.setattr(inference_module, "whiten", lambda states: (computed.append(len(states)), real(states))[1])

    def vector() -> torch.Tensor:
        monkeypatch.setattr(scope_module, "_whitenings", {})  # of this process
        app = open_app(scope="near")
        app.engine.scope.prepare(app.engine)
        features = app.engine.scope._kept_for(app.engine).of_model.features
        assert features is not None
        return features(["What is an owl?"])

    first = vector()
    assert len(computed) == 1
    assert torch.equal(vector(), first) and len(computed) == 1
