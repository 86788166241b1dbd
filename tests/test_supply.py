"""What comes from elsewhere runs no code here: readers of pickles are banned by lint, and a model's Python files stay unread."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spear_core.errors import ModelUnavailable
from spear_core.models.loading import load_model
from tests.test_import_direction import OURS
from tests.tiny_models import tiny_folder

ROOT = Path(__file__).resolve().parents[1]
RUFF = Path(sys.executable).with_name("ruff")
PACKAGES = sorted(OURS - {"app"})


def lint(code: str, package: str = "services") -> tuple[int, str]:
    """Exit status and words of the project's own ruff about a file of that package with this code."""
    command = [str(RUFF), "check", "--no-cache", "--stdin-filename", f"{package}/new_file.py", "-"]
    done = subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import torch\n\nstate = torch.load('x.pt')\n",
        "from torch import load\n\nstate = load('x.pt')\n",
        "import torch\n\nstate = torch.load('x.pt', weights_only=True)\n",
        "import pickle\n\nstate = pickle.load(open('x', 'rb'))\n",
        "from pickle import loads\n\nstate = loads(b'')\n",
        "import marshal\n\nstate = marshal.loads(b'')\n",
        "import shelve\n\nstate = shelve.open('x')\n",
        "import joblib\n\nstate = joblib.load('x')\n",
        "import numpy as np\n\nstate = np.load('x', allow_pickle=True)\n",
        "import dill\n\nstate = dill.loads(b'')\n",
        "import torch\n\nstate = torch.jit.load('x')\n",
        "import torch\n\nstate = torch.hub.load('x', 'y')\n",
    ],
)
def test_a_file_that_reads_pickles_is_refused_by_the_projects_lint(code: str) -> None:
    status, said = lint(code)
    assert status == 1 and ("TID251" in said or "S301" in said or "S302" in said), said


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_is_exempt(package: str) -> None:
    assert lint("import torch\n\nstate = torch.load('x.pt')\n", package)[0] == 1


def test_what_the_project_reads_with_is_not_refused() -> None:
    assert lint("from safetensors.torch import load_file\n\nstate = load_file('x')\n") == (0, "All checks passed!\n")


def test_the_only_exception_is_a_trap_in_a_test() -> None:
    marked = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path != Path(__file__) and any("noqa" in line and "TID251" in line for line in path.read_text().splitlines())
    ]
    assert marked == ["tests/federation/test_checks.py"]


@pytest.fixture
def trap(tmp_path: Path) -> tuple[Path, Path]:
    """A model folder whose Python file leaves a mark when it is run, and the mark's path."""
    folder, mark = tiny_folder("qwen2", tmp_path / "model"), tmp_path / "mark"
    (folder / "trap.py").write_text(
        f"from pathlib import Path\n\nPath({str(mark)!r}).touch()\nraise ImportError('enough is proven')\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "trap.Config", "AutoModelForCausalLM": "trap.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["trap.Config", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder, mark


def test_a_models_python_file_is_not_run_where_nobody_asked_for_it(trap: tuple[Path, Path]) -> None:
    folder, mark = trap
    assert type(load_model(str(folder)).model).__name__ == "Qwen2ForCausalLM"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "trap"}))
    with pytest.raises(ModelUnavailable, match="Python code of its own"):
        load_model(str(folder))
    assert not mark.exists()


def test_the_trap_would_snap(trap: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for, the file is run: so the test above can fail."""
    folder, mark = trap
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "trap"}))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ModelUnavailable, match="enough is proven"):
        load_model(str(folder), trust_remote_code=True)
    assert mark.exists()


def test_no_setting_or_flag_turns_it_on() -> None:
    """The app itself never asks: whoever wants such a model writes code."""
    callers = [
        path
        for package in ("services", "ui", "federation", "experiments")
        for path in (ROOT / package).rglob("*.py")
        if "trust_remote_code" in path.read_text()
    ]
    assert not callers and "trust_remote_code" not in (ROOT / "app.py").read_text()
