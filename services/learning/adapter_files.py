"""Export and import of adapters as zipped PEFT folders. Read from safetensors only, and never unpacked."""

from __future__ import annotations

import json
import lzma
import zipfile
import zlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load

from services.engine import Engine
from services.learning.rounds import LearningService
from spear_core.errors import AdapterInvalid, SpearError
from spear_core.models.adapters import CONFIG, WEIGHTS, load_adapter
from spear_core.models.foreign_adapters import fit, read_config
from spear_core.models.gguf_adapter import write_gguf_adapter
from spear_core.models.shared_base import AdapterState

MAX_CONFIG_BYTES = 100_000
MOST_TIMES_OURS = 16  # the size of this model's own adapter: others adapt more of it, or with a higher rank
SPARE_BYTES = 1_000_000  # above that: names, header, another order


class AdapterFiles:
    """Writes adapters as files and reads adapters from files."""

    def __init__(self, engine: Engine, learning: LearningService) -> None:
        self._engine = engine
        self._learning = learning

    def download(self, version: int, folder: Path) -> Path:
        """Write a version as `<model>-v3.zip` into `folder`. Raises UnknownRecord, SpearError where its files are gone."""
        source = self._folder(version)
        target = folder / f"{self._stem(version)}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(source.iterdir()):
                packed.write(file, f"v{version}/{file.name}")
        return target

    def download_gguf(self, version: int, folder: Path) -> Path:
        """Write a version as `<model>-v3.gguf` into `folder`, for llama.cpp. Raises as `download`, and AdapterInvalid for
        an architecture that cannot be written.
        """
        source, engine = self._folder(version), self._engine
        adapter = engine.store.adapter(engine.base, version)
        target = folder / f"{self._stem(version)}.gguf"
        state, alpha = load_adapter(source, adapter.sha256), engine.config.lora_alpha
        write_gguf_adapter(target, state, engine.loaded.model.config.get_text_config(), alpha)
        return target

    def _folder(self, version: int) -> Path:
        adapter = self._engine.store.adapter(self._engine.base, version)
        source = self._engine.files_of(adapter)
        if adapter.status == "pruned" or not source.is_dir():
            raise SpearError(f"The files of v{version} are gone; choose another version.")
        return source

    def _stem(self, version: int) -> str:
        return f"{Path(self._engine.loaded.name).name}-v{version}"

    def upload(self, path: Path) -> int:
        """Take over a zipped PEFT folder if it fits the model and passes the gate. Returns its new version.

        Raises AdapterInvalid or SpearError, with one sentence, for anything else; nothing has changed then.
        """
        state = self._read(path)
        return self._learning.try_adapter(state, "uploaded")

    def _read(self, path: Path) -> AdapterState:
        shared_models = self._engine.shared_models
        most = MOST_TIMES_OURS * sum(t.numel() * 4 for t in shared_models.initial.values()) + SPARE_BYTES
        try:
            with zipfile.ZipFile(path) as packed:
                weights = _member(packed, WEIGHTS, most)
                config = json.loads(_member(packed, CONFIG, MAX_CONFIG_BYTES))
        except (
            zipfile.BadZipFile,
            OSError,
            RuntimeError,
            EOFError,
            ValueError,
            RecursionError,
            zlib.error,
            lzma.LZMAError,
        ) as error:
            raise AdapterInvalid(
                "This is not a zip file of an adapter folder; compare it with one downloaded here"
            ) from error
        foreign = read_config(config)
        try:
            tensors = load(weights)
        except (SafetensorError, ValueError, KeyError) as error:
            raise AdapterInvalid(f"{WEIGHTS} in this zip is damaged; zip the adapter folder again") from error
        ours = self._engine.config
        return fit(tensors, foreign, shared_models.initial, ours.lora_alpha / ours.lora_rank)


def _member(packed: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    """One file of the zip, wherever in it. Raises AdapterInvalid where it is missing, there twice or too large."""
    found = [info for info in packed.infolist() if Path(info.filename).name == name]
    if len(found) != 1:
        raise AdapterInvalid(f"The zip must hold one {name}, and it holds {len(found)}")
    with packed.open(found[0]) as file:
        content = file.read(most_bytes + 1)  # the size in the header may lie
    if len(content) > most_bytes:
        raise AdapterInvalid(f"{name} is larger than any adapter of this model can be")
    return content
