"""Builds all services from the settings (`AppServices`), the only place where they are connected."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from pathlib import Path

from feedback_store import Store
from services.chat.chat import ChatService
from services.chat.feedback import FeedbackService
from services.chat.preferences import ChatDefaults
from services.data import backups
from services.data.backup_contents import BackupService
from services.demo import DemoService
from services.engine import Engine, ModelParts
from services.learning.adapter_files import AdapterFiles
from services.learning.comparison import ComparisonService
from services.learning.old_manifests import erase_from_manifests
from services.learning.progress import ProgressService
from services.learning.rounds import LearningService
from services.learning.self_play import SelfPlayService
from services.models import thinking
from services.models.built_in import model_folder
from services.models.switching import ModelService, choose_threads
from services.peers.sync import SyncService
from services.priority import SWITCH_SECONDS
from services.scheduler import Jobs, stand_back
from services.settings import Settings
from services.views import ModelView
from spear_core.errors import ConfigError
from spear_core.models.loading import load_model
from spear_core.own_thread import end_openmp_helpers, in_own_thread
from spear_core.training.process_memory import keep_little

log = logging.getLogger(__name__)
DATABASE = "spear.sqlite3"


class AppServices:
    """All services over one model and one data folder. `close` ends the scheduler and the database."""

    def __init__(self, engine: Engine, settings: Settings, *, start_jobs: bool = True) -> None:
        self.engine = engine
        engine.store.end_unfinished_replies()  # once: later ones are being written
        erase_from_manifests(engine.store, engine.data_folder)
        self.learning = LearningService(engine)
        self.feedback = FeedbackService(engine, self.learning.kick)
        self.chat = ChatService(engine, self.feedback)
        self.comparison = ComparisonService(engine, self.learning.lineage)
        self.progress = ProgressService(engine)
        self.adapter_files = AdapterFiles(engine, self.learning)
        self.backups = BackupService(engine)
        self.sync = SyncService(engine, self.learning, settings.federation)
        self.models = ModelService(engine, self.learning, settings, self._begin)
        self.demo = DemoService(engine)
        self._starts_jobs = start_jobs
        self._preparing: list[threading.Thread] = []
        self._jobs = Jobs(
            engine.priority.job(self.learning.run_pending),
            engine.priority.job(self._play),
            engine.priority.job(self.sync.sync),
            interval_seconds=settings.learn_interval_seconds,
            sync_seconds=settings.federation.sync_seconds,
        )
        self._begin()
        if start_jobs:
            self.learning.on_kick = self._jobs.learn_now
            self.sync.on_sync = self._jobs.sync_now
            self._jobs.start()

    def _begin(self) -> None:
        """With the first model, and with every other one that takes its place."""
        loaded = self.engine.loaded
        self.model = ModelView(Path(loaded.name).name, loaded.parameters, tuple(loaded.settings.examples))
        self.sync.begin()
        self.self_play = SelfPlayService(self.engine)  # what it remembers is of one model
        if self._starts_jobs:
            self._preparing = [thread for thread in self._preparing if thread.is_alive()]
            prepare = self.engine.priority.job(self._prepare)
            self._preparing.append(threading.Thread(target=prepare, name="prepare", daemon=True))
            self._preparing[-1].start()

    def _prepare(self) -> None:
        stand_back()
        self.learning.prepare_replies()

    def _play(self) -> None:
        """One turn of background self-play; what it finds is learned at once."""
        play = self.self_play
        if not self.learning.paused and play.judge_waiting() + play.try_again() + play.reask():
            self.learning.kick()

    def erase(self) -> None:
        """Erase everything that anybody said and the model learned, backups and the peer key included, and start over."""
        backups.erase(self.engine.store, self.engine.data_folder, self.learning.exchange)
        self.sync.start_over()

    def close(self) -> None:
        """End replies and rounds under way, then close the database. What a round was learning waits for the next start."""
        self.engine.priority.close()
        self.sync.close()
        self.models.close()
        self.demo.close()
        self.chat.close()
        self._jobs.stop()
        for thread in self._preparing:  # ends at its next piece of work; it reads the store
            thread.join()
        self.engine.store.close()


def prepare_data_folder(folder: Path) -> Path:
    """Create the data folder. Raises ConfigError with one sentence where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as e:
        raise ConfigError(
            f"the data folder {folder} cannot be written ({e.strerror}); choose another with --data-folder"
        ) from e
    return folder


def keep_what_is_loaded() -> None:
    """Take all that exists by now out of the sight of Python's garbage collector. Once, when the app has started.

    A full collection walks over every object of torch and transformers: a third of a second in the middle of a reply.
    """
    gc.collect()
    gc.freeze()


def open_services(settings: Settings, *, start_jobs: bool = True) -> AppServices:
    """Load the model, open the store, restore the active adapter. `start_jobs=False` leaves learning to the caller.

    Raises ConfigError, ModelUnavailable or StoreError, each with one sentence that says what to do.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_little()
    folder = prepare_data_folder(settings.data_folder)
    store = Store(folder / DATABASE)
    model = in_own_thread(lambda: _load(settings, folder, store))
    end_openmp_helpers()  # importing torch has started some for this thread, which computes nothing from now on
    choose_threads(model.loaded, settings.threads)
    engine = Engine(
        store=store,
        model=model,
        data_folder=folder,
        seed=settings.seed,
        chat_defaults=ChatDefaults(settings.learn_from_corrections, settings.system_prompt),
    )
    return AppServices(engine, settings, start_jobs=start_jobs)


def _load(settings: Settings, folder: Path, store: Store) -> ModelParts:
    loaded = thinking.as_chosen(store, load_model(model_folder(settings.model, folder), device=settings.device))
    return ModelParts.of(loaded, settings.config_for(loaded))
