"""One model at a time from the Hugging Face Hub into the data folder: progress, cancel, and going on where it stopped.

huggingface_hub asks for the files and transfers them. Its cache is not used: version 2 removes what it has of a file when
the transfer is broken off, and a file of a model is often the whole model. Here a file keeps a temporary name until all of
it is there, and the folder until all its files are.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils.tqdm import tqdm
from transformers import AutoConfig

from services.models.prepared import FOLDER
from spear_core.errors import ModelUnavailable, SpearError, one_line
from spear_core.models.estimate import parameters_of

log = logging.getLogger(__name__)
WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
ASK_SECONDS = 15.0
PART = ".part"  # what is on its way: NAME.part/ holds whole files, and FILE.part of one that is not whole


@dataclass(frozen=True)
class DownloadView:
    """`phase`: idle | running | done | cancelled | failed. `sentence` says it to a person."""

    phase: str = "idle"
    name: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    parameters: int = 0
    sentence: str = ""
    folder: str = ""  # where the model is, once it is done


class _Cancelled(Exception):
    pass


@dataclass(frozen=True)
class _File:
    name: str
    bytes: int
    sha256: str | None


class DownloadService:
    """`endpoint`: another Hub than the public one; by default as HF_ENDPOINT says."""

    def __init__(self, data_folder: Path, endpoint: str | None = None) -> None:
        self._folder = data_folder / FOLDER
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._view = DownloadView()

    @property
    def view(self) -> DownloadView:
        return self._view

    def folder_of(self, name: str) -> Path:
        """Where a model of the Hub is kept once it was downloaded."""
        return (self._folder / name.replace("/", "--")).absolute()

    def has_part(self, name: str) -> bool:
        """Whether a part of it is here, from where a download goes on."""
        return self._part(name).is_dir()

    def start(self, name: str) -> None:
        """Begin, or go on where it stopped. Raises SpearError while another one is under way."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise SpearError(f"{self._view.name} is being downloaded; wait for it or cancel it.")
            self._cancel.clear()
            self._view = DownloadView("running", name, sentence="Asking the Hugging Face Hub…")
            self._thread = threading.Thread(target=self._run, args=(name,), name="download", daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """Stop; what has come is kept, and `start` goes on from there."""
        self._cancel.set()

    def close(self) -> None:
        self._cancel.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, name: str) -> None:
        try:
            folder = self._download(name)
        except _Cancelled:
            self._tell(
                phase="cancelled", sentence="Cancelled. The part that was downloaded is kept; press Resume to continue."
            )
        except ModelUnavailable as error:
            sentence = str(error)
            self._tell(phase="failed", sentence=sentence[:1].upper() + sentence[1:] + ".")
        except Exception as error:  # of several libraries; whatever it is, the person is told
            log.info("the download of %s failed", name, exc_info=True)
            self._tell(phase="failed", sentence=_sentence(name, error))
        else:
            self._tell(phase="done", folder=str(folder), sentence=f"{name} is on this machine now.")

    def _download(self, name: str) -> Path:
        folder, part = self.folder_of(name), self._part(name)
        if folder.is_dir():
            return folder
        info = HfApi(endpoint=self._endpoint).model_info(name, files_metadata=True, timeout=ASK_SECONDS)
        files = [
            _File(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None)
            for s in info.siblings or ()
            if "/" not in s.rfilename and any(fnmatch(s.rfilename, pattern) for pattern in WANTED)
        ]
        if not any(file.name.endswith(".safetensors") for file in files):
            raise ModelUnavailable(f"{name} has no weights as safetensors; choose another model")
        part.mkdir(parents=True, exist_ok=True)
        total = sum(file.bytes for file in files)
        self._tell(total_bytes=total, sentence="Downloading…")
        self._check_room(name, part, total)
        before = 0
        for file in sorted(files, key=lambda f: f.bytes):  # the configuration first: it says how large the model is
            self._fetch(name, info.sha, file, part, before)
            before += file.bytes
            if file.name == "config.json":
                self._tell(parameters=_parameters(part))
        self._raise_if_cancelled()
        part.replace(folder)
        return folder

    def _fetch(self, name: str, commit: str | None, file: _File, part: Path, before: int) -> None:
        whole, begun = part / file.name, part / f"{file.name}{PART}"
        self._tell(done_bytes=before)
        if whole.is_file() and whole.stat().st_size == file.bytes:
            return
        self._raise_if_cancelled()
        bar = self._bar(before)
        with begun.open("ab") as out:
            has = out.tell()
            if has > file.bytes:
                out.truncate(0)
                has = 0
            http_get(
                hf_hub_url(name, file.name, revision=commit, endpoint=self._endpoint),
                out,
                resume_size=has,
                headers=build_hf_headers(),
                expected_size=file.bytes or None,
                displayed_filename=file.name,
                tqdm_class=bar,
            )
        if file.sha256 and _sha256(begun, self._raise_if_cancelled) != file.sha256:
            begun.unlink()
            raise ModelUnavailable(f"{file.name} was damaged on its way; press Resume to download it again")
        begun.replace(whole)

    def _bar(self, before: int) -> type[tqdm]:
        """What huggingface_hub tells its progress to; raises where the download was cancelled."""
        service = self

        class Bar(tqdm):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                self.has = int(kwargs.get("initial") or 0)
                super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

            def update(self, n: float | None = 1) -> None:
                self.has += int(n or 0)
                service._tell(done_bytes=before + self.has)
                service._raise_if_cancelled()

        return Bar

    def _check_room(self, name: str, part: Path, total: int) -> None:
        here = sum(file.stat().st_size for file in part.iterdir())
        free = shutil.disk_usage(part).free
        if total - here > free:
            raise ModelUnavailable(
                f"{name} needs {(total - here) / 1e9:.1f} GB of disk space and {free / 1e9:.1f} GB are free; free some space or "
                "choose a smaller model"
            )

    def _raise_if_cancelled(self) -> None:
        if self._cancel.is_set():
            raise _Cancelled

    def _part(self, name: str) -> Path:
        folder = self.folder_of(name)
        return folder.with_name(folder.name + PART)

    def _tell(self, **changes: Any) -> None:
        self._view = replace(self._view, **changes)


def _parameters(folder: Path) -> int:
    """From the configuration alone, before the weights have come. Raises ModelUnavailable for what cannot be loaded."""
    try:
        return parameters_of(AutoConfig.from_pretrained(folder, local_files_only=True))
    except (ModelUnavailable, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(f"this model cannot be used here ({one_line(error)}); choose another one") from error


def _sha256(file: Path, pause: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            pause()
            digest.update(block)
    return digest.hexdigest()


def _sentence(name: str, error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return f"{name} is only for people who accepted its terms on its page and logged in with `hf auth login`."
    if isinstance(error, RepositoryNotFoundError):
        return f"The Hugging Face Hub has no public model {name}."
    if isinstance(error, HfHubHTTPError):
        return f"The Hugging Face Hub refused the request ({one_line(error)}); try again later."
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        return (
            f"The download stopped ({one_line(error)}). The part that was downloaded is kept; press Resume to continue."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return "This app was started without access to the Hugging Face Hub (HF_HUB_OFFLINE)."
    return "The Hugging Face Hub cannot be reached from this machine. Models on this machine still work."
