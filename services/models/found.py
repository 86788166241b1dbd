"""Models that are on this machine already, wherever other programs keep theirs. Found and named, not copied or loaded.

Ollama: manifests/REGISTRY/NAMESPACE/NAME/TAG are JSON files whose layers name the weights in blobs/ by their digest.
LM Studio: models/PUBLISHER/NAME/*.gguf. Hugging Face: the Hub's cache, see
https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

HUB, LM_STUDIO, OLLAMA = "Hugging Face cache", "LM Studio", "Ollama"
MODEL_LAYER, ADAPTER_LAYER = "application/vnd.ollama.image.model", "application/vnd.ollama.image.adapter"
DEEPEST = 4  # folders below one that is searched
MOST = 200  # models of one place
NO_MODELS = ("mmproj", "ggml-vocab")  # how files begin that hold eyes or vocabularies for other models


@dataclass(frozen=True)
class Candidate:
    """`name` is what is loaded: a folder, a GGUF file, or a Hub name. `problem`: why it cannot be, where that is known."""

    name: str
    title: str
    place: str
    bytes: int
    problem: str = ""


def candidates(named_folder: str = "", environment: Mapping[str, str] = os.environ) -> list[Candidate]:
    """All models that are found, those of one place by name; `named_folder` is one that the user named."""
    home = Path(environment.get("HOME") or Path.home())
    found = [
        *_hub(Path(constants.HF_HUB_CACHE)),
        *(c for folder in _lm_studio_folders(home) for c in _below(folder, LM_STUDIO)),
        *(c for folder in _ollama_folders(home, environment) for c in _ollama(folder)),
    ]
    if named_folder:
        folder = Path(named_folder).expanduser()
        found += _below(folder, str(folder))
    return list({c.name: c for c in found}.values())


def _lm_studio_folders(home: Path) -> list[Path]:
    roots = [home / ".lmstudio", home / ".cache" / "lm-studio"]
    with suppress(OSError, ValueError):  # there only where LM Studio's own folder was moved
        roots.insert(0, Path((home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip()))
    return list(dict.fromkeys(root / "models" for root in roots))


def _ollama_folders(home: Path, environment: Mapping[str, str]) -> list[Path]:
    named = [Path(environment["OLLAMA_MODELS"])] if environment.get("OLLAMA_MODELS") else []
    return [*named, home / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]


def _hub(cache: Path) -> Iterator[Candidate]:
    for folder in _folders(cache):
        if not folder.name.startswith("models--"):
            continue
        title = folder.name.removeprefix("models--").replace("--", "/")
        try:
            commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            continue  # another revision was asked for, by its number
        snapshot = folder / "snapshots" / commit
        if (snapshot / "config.json").is_file():
            if weights := list(snapshot.glob("*.safetensors")):
                yield Candidate(title, title, HUB, _size(weights))
        else:
            yield from (_file(file, HUB) for file in _gguf_files([snapshot]))


def _ollama(folder: Path) -> Iterator[Candidate]:
    manifests = folder / "manifests"
    for directory, _, files in os.walk(manifests):
        for file in sorted(files):
            path = Path(directory) / file
            title = f"{path.parent.name}:{file}"
            try:
                layers = json.loads(path.read_text(encoding="utf-8"))["layers"]
                kinds = {str(layer["mediaType"]): str(layer["digest"]) for layer in layers}
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue  # not a manifest
            if not (digest := kinds.get(MODEL_LAYER)):
                continue
            blob = folder / "blobs" / digest.replace(":", "-")
            problem = "" if blob.is_file() else "its file is missing; pull it again with Ollama"
            if ADAPTER_LAYER in kinds:
                problem = "it is a model with an adapter on top, which cannot be read"
            yield Candidate(str(blob), title, OLLAMA, _size([blob]), problem)


def _below(folder: Path, place: str) -> list[Candidate]:
    """Model folders and GGUF files in a folder and below it."""
    found: list[Candidate] = []
    level = [folder]
    for _ in range(DEEPEST):
        deeper: list[Path] = []
        for place_of_files in level:
            if (place_of_files / "config.json").is_file():
                weights = list(place_of_files.glob("*.safetensors"))
                found.append(Candidate(str(place_of_files), place_of_files.name, place, _size(weights)))
                continue
            found += [_file(file, place) for file in _gguf_files([place_of_files])]
            deeper += _folders(place_of_files)
        level = deeper
        if not level or len(found) >= MOST:
            break
    return found[:MOST]


def _file(file: Path, place: str) -> Candidate:
    return Candidate(str(file), file.stem, place, _size([file]))


def _gguf_files(folders: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        try:
            found += sorted(f for f in folder.iterdir() if f.suffix == ".gguf" and not f.name.startswith(NO_MODELS))
        except OSError:
            continue  # not there, or not for this user
    return found


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    except OSError:
        return []


def _size(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total
