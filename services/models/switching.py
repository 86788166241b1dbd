"""Which base models this instance knows, what another one needs, and the switch. Each model keeps its own adapters."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from federation.flower.start import write_start
from services.engine import Engine, ModelParts
from services.learning.rounds import LearningService
from services.models import thinking
from services.models.built_in import built_in_names, model_folder
from services.models.catalogue import ModelCatalogue
from services.models.downloads import DownloadService, DownloadView
from services.models.prepared import gguf_file
from services.models.recommended import MODELS
from services.settings import Settings
from services.views import FoundModel, KnownModel, MemoryView, RecommendedModel
from spear_core.errors import SpearError
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.shared_base import SharedBaseModels
from spear_core.own_thread import in_own_thread
from spear_core.training.traces import Encoder

KNOWN = "known_models"
# One thread is as fast for a model this small, and leaves the other cores to chat while a round trains.
SMALL_MODEL_PARAMETERS = 50_000_000


def choose_threads(loaded: LoadedModel, wanted: int) -> None:
    """`wanted` threads, or what suits the model's size where that is 0."""
    if threads := wanted or (1 if loaded.parameters < SMALL_MODEL_PARAMETERS else 0):
        torch.set_num_threads(threads)


def write_first_adapter(settings: Settings, path: Path) -> None:
    """The adapter that every app with these settings begins with, as a fleet's server needs it.

    Raises ModelUnavailable, FederationError where the file exists or cannot be written.
    """
    loaded = load_model(model_folder(settings.model, settings.data_folder))
    config = settings.config_for(loaded)
    write_start(path, SharedBaseModels(loaded.model, config).initial, loaded.fingerprint, config.lora_alpha)


class _Cancelled(Exception):
    pass


class ModelService:
    """`on_switch` is called when another model serves, or the same one reads or writes otherwise."""

    def __init__(
        self, engine: Engine, learning: LearningService, settings: Settings, on_switch: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._learning = learning
        self._settings = settings
        self._on_switch = on_switch
        self._downloads = DownloadService(engine.data_folder)
        self._catalogue = ModelCatalogue(engine, settings, self._downloads)
        self._switching = threading.Lock()
        self._cancelled = threading.Event()
        self._remember(engine.loaded)

    def known(self) -> list[KnownModel]:
        """Those that were used here, and the built-in ones."""
        store, current = self._engine.store, self._engine.loaded.name
        bases: dict[str, str] = store.setting(KNOWN, {})
        built_in = built_in_names(self._engine.data_folder)
        names = dict.fromkeys([current, *bases, *built_in])
        return [
            KnownModel(
                name,
                len(store.adapters(bases[name])) if name in bases else 0,
                store.active_version(bases[name]) if name in bases else 0,
                name == current,
                name in built_in,
            )
            for name in names
        ]

    def weigh(self, name: str) -> MemoryView:
        """Memory needed and free. Raises ModelUnavailable for what is not on this machine."""
        name = name.strip()
        if gguf_file(name) is None:  # one is converted when it is used, not when it is looked at
            name = model_folder(name, self._engine.data_folder)
        weighed = self._catalogue.weigh(name)
        return MemoryView(name, weighed.parameters, weighed.needed_bytes, weighed.free_bytes)

    # -- finding and downloading -----------------------------------------------------------------------------

    def on_this_machine(self) -> list[FoundModel]:
        """What other programs keep here, less what was used already."""
        used = {model.name for model in self.known()}
        return [model for model in self._catalogue.on_this_machine() if model.name not in used]

    def recommended(self) -> list[RecommendedModel]:
        return self._catalogue.recommended()

    def named_folder(self) -> str:
        """A folder that is searched for models because the user named it."""
        return self._catalogue.named_folder

    def name_folder(self, folder: str) -> None:
        """Raises SpearError where there is no such folder."""
        self._catalogue.name_folder(folder)

    def download_view(self) -> DownloadView:
        """The download under way, or the last one."""
        return self._downloads.view

    def download(self, name: str) -> None:
        """Begin a download of a recommended model, or go on with it. Raises SpearError for any other."""
        if name not in {model.name for model in MODELS}:
            raise SpearError("That model is not in the list.")
        self._downloads.start(name)

    def cancel_download(self) -> None:
        self._downloads.cancel()

    def close(self) -> None:
        self._downloads.close()

    # -- loading ---------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Keep the present model, also if the other one is loaded and only waits for a round's end."""
        self._cancelled.set()

    def switch(self, name: str) -> bool:
        """Load another base model and serve its own adapter; the present one serves until then. False: cancelled.

        Raises ModelUnavailable with one line, SpearError where another switch or a round is under way.
        """
        if not self._switching.acquire(blocking=False):
            raise SpearError("Another model is being loaded; wait for it or cancel it.")
        try:
            self._cancelled.clear()
            engine = self._engine
            folder = model_folder(name.strip(), engine.data_folder)
            loaded = in_own_thread(lambda: load_model(folder, device=self._settings.device))
            loaded = thinking.as_chosen(engine.store, loaded)
            config = self._settings.config_for(loaded)
            self._learning.lineage.check_shape(loaded.fingerprint, config)
            model = ModelParts.of(loaded, config)

            def change() -> None:
                self._raise_if_cancelled()
                engine.model = model

            self._raise_if_cancelled()
            self._learning.change_model(change)
            choose_threads(loaded, self._settings.threads)
            self._remember(loaded)
            self._on_switch()
            return True
        except _Cancelled:
            return False
        finally:
            self._switching.release()

    @property
    def thinks(self) -> bool | None:
        """Whether the present model thinks before it answers; None where that cannot be chosen."""
        return thinking.thinks(self._engine.loaded)

    def set_thinking(self, is_thinking: bool) -> None:
        """From the next reply on. Raises SpearError where a round is under way or the model has no such switch."""
        engine = self._engine
        if self.thinks is None:
            raise SpearError("This model has no switch for thinking.")
        if self.thinks is is_thinking:
            return

        def change() -> None:  # nothing is chosen where a round is under way
            thinking.remember(engine.store, engine.base, is_thinking)
            loaded = thinking.as_chosen(engine.store, engine.loaded)
            engine.model = replace(
                engine.model, loaded=loaded, encoder=Encoder(loaded.tokenizer, loaded.context_tokens)
            )

        self._learning.change_model(change)
        self._on_switch()

    def _raise_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _Cancelled

    def _remember(self, loaded: LoadedModel) -> None:
        store = self._engine.store
        store.set_setting(KNOWN, {**store.setting(KNOWN, {}), loaded.name: loaded.fingerprint})
