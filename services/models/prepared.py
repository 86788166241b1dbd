"""GGUF files that are used as models: each is converted once, into the data folder, when it is first used."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from spear_core.errors import ModelUnavailable, one_line

FOLDER = "base-models"  # in the data folder: made from what is on this machine, so no backup holds it
SAMPLES, SAMPLE_BYTES = 64, 1 << 16  # of a file, that tell it from others


def gguf_file(name: str) -> Path | None:
    """The file, where the name is that of a GGUF file."""
    from spear_core.models.gguf_files import is_gguf  # takes torch along, which the command line can do without

    try:
        file = Path(name).expanduser()
        return file if file.is_file() and is_gguf(file) else None
    except (OSError, RuntimeError):  # no path at all
        return None


def folder_of(file: Path, data_folder: Path) -> Path:
    """Where the model of a GGUF file is kept, or will be: named after the model and what the file holds."""
    from spear_core.models.gguf_files import summary

    title = summary(file).title if file.name.startswith("sha256-") else file.stem  # Ollama's files have no names
    slug = re.sub(r"[^\w.-]+", "-", title).strip("-.")[:60] or "model"
    return (data_folder / FOLDER / f"{slug}-{_mark(file)}").absolute()


def prepare(file: Path, data_folder: Path) -> Path:
    """The model folder of a GGUF file, made where it is not there yet. Raises ModelUnavailable with one sentence."""
    from spear_core.models.gguf_files import convert_gguf

    folder = folder_of(file, data_folder)
    convert_gguf(file, folder)
    return folder


def _mark(file: Path) -> str:
    """8 hex digits over the file's size and some of its bytes."""
    try:
        size = file.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with file.open("rb") as stream:
            for sample in range(SAMPLES):
                stream.seek(max(size - SAMPLE_BYTES, 0) * sample // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    except OSError as e:
        raise ModelUnavailable(f"{file} cannot be read ({one_line(e)}); check its permissions") from e
    return digest.hexdigest()[:8]
