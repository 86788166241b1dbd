"""What models there are to choose from: on this machine, and recommended ones on the Hub. Nothing is loaded or copied."""

from __future__ import annotations

from pathlib import Path

from services.engine import Engine
from services.learning.waiting_queue import usual_seconds
from services.models.downloads import DownloadService
from services.models.found import Candidate, candidates
from services.models.prepared import gguf_file
from services.models.recommended import BYTES_A_WEIGHT, MODELS, seconds_a_correction
from services.settings import Settings
from services.views import FoundModel, RecommendedModel
from spear_core.errors import ModelUnavailable, SpearError
from spear_core.models.files import MEMORY_MARGIN
from spear_core.models.loading import Weighed, weigh_gguf, weigh_model

NAMED_FOLDER = "model_folder"  # setting in the store
ROUNDS_LOOKED_AT = 20


class ModelCatalogue:
    """What may be chosen, and what each asks of this machine."""

    def __init__(self, engine: Engine, settings: Settings, downloads: DownloadService) -> None:
        self._engine = engine
        self._settings = settings
        self._downloads = downloads
        self._weighed: dict[tuple[str, int], tuple[int, str]] = {}  # (name, bytes) -> bytes of memory, or the problem

    @property
    def named_folder(self) -> str:
        """A folder that the user named; empty where none."""
        return str(self._engine.store.setting(NAMED_FOLDER, ""))

    def name_folder(self, folder: str) -> None:
        """Look for models there too; an empty name ends that. Raises SpearError where there is no such folder."""
        folder = folder.strip()
        try:
            if folder and not Path(folder).expanduser().is_dir():
                raise SpearError(f"There is no folder {folder[:200]} on this machine.")
        except (OSError, RuntimeError) as e:
            raise SpearError("That folder cannot be looked at; check its name.") from e
        self._engine.store.set_setting(NAMED_FOLDER, folder)

    def on_this_machine(self) -> list[FoundModel]:
        """Models that other programs keep on this machine, with the memory each needs, or why it cannot be used."""
        views = []
        for found in candidates(self.named_folder):
            needed, problem = self._look(found)
            views.append(FoundModel(found.name, found.title, found.place, found.bytes, needed, problem))
        return views

    def weigh(self, name: str) -> Weighed:
        """Raises ModelUnavailable for what is not on this machine or cannot be loaded."""
        if file := gguf_file(name):
            return weigh_gguf(file, device=self._settings.device)
        return weigh_model(name, device=self._settings.device)

    def _look(self, found: Candidate) -> tuple[int, str]:
        key = (found.name, found.bytes)
        if key not in self._weighed:
            try:
                if found.problem:
                    raise ModelUnavailable(found.problem)
                self._weighed[key] = (self.weigh(found.name).needed_bytes, "")
            except ModelUnavailable as problem:
                self._weighed[key] = (0, _without_name(str(problem), found.name))
        return self._weighed[key]

    def recommended(self) -> list[RecommendedModel]:
        known = self._seconds_known()
        return [
            RecommendedModel(
                model.name,
                model.licence,
                model.words,
                int(model.parameters),
                int(model.download_bytes),
                int(model.parameters * BYTES_A_WEIGHT * MEMORY_MARGIN),
                seconds_a_correction(model.parameters, known),
                str(folder) if (folder := self._downloads.folder_of(model.name)).is_dir() else "",
                self._downloads.has_part(model.name),
            )
            for model in MODELS
        ]

    def _seconds_known(self) -> tuple[float, float] | None:
        """(seconds, parameters) of the corrections that the present model learned on this machine."""
        rounds = self._engine.store.rounds(self._engine.base, ROUNDS_LOOKED_AT)
        usual = usual_seconds(rounds)
        return (usual, float(self._engine.loaded.parameters)) if usual else None


def _without_name(problem: str, name: str) -> str:
    """The sentence under the model's own heading."""
    if problem.startswith(f"{name}: "):
        return problem.removeprefix(f"{name}: ")
    return f"it {problem.removeprefix(f'{name} ')}" if problem.startswith(f"{name} ") else problem
