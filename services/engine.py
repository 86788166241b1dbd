"""The parts that every service uses: store, models, replies under way, compute priority."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from feedback_store import Adapter, Store
from services.chat.correction_reading import CorrectionReading
from services.chat.preferences import ChatDefaults
from services.learning.scope import AdapterScope
from services.priority import ComputePriority
from spear_core.config import SpearConfig
from spear_core.errors import AdapterInvalid
from spear_core.inference.continuous_batching import ContinuousBatching
from spear_core.inference.recall import standing_alone
from spear_core.models.loading import LoadedModel
from spear_core.models.prompts import padding_token_id
from spear_core.models.shared_base import SharedBaseModels
from spear_core.own_thread import end_openmp_helpers
from spear_core.training.traces import Encoder, Messages


@dataclass(frozen=True)
class ModelParts:
    """One base model and what works with it. Another model replaces all of them at once."""

    loaded: LoadedModel
    shared_models: SharedBaseModels
    encoder: Encoder
    config: SpearConfig

    @classmethod
    def of(cls, loaded: LoadedModel, config: SpearConfig) -> ModelParts:
        return cls(
            loaded, SharedBaseModels(loaded.model, config), Encoder(loaded.tokenizer, loaded.context_tokens), config
        )


@dataclass
class Engine:
    """A copy (`dataclasses.replace`) keeps its model when another one comes to serve."""

    store: Store
    model: ModelParts
    data_folder: Path
    seed: int
    priority: ComputePriority = field(default_factory=lambda: ComputePriority(end_openmp_helpers))
    batching: ContinuousBatching = field(default_factory=ContinuousBatching)
    scope: AdapterScope = field(default_factory=AdapterScope)
    corrections: CorrectionReading = field(default_factory=CorrectionReading)
    chat_defaults: ChatDefaults = ChatDefaults()

    def __post_init__(self) -> None:
        if self.scope.store is None:
            self.scope.store = self.store

    @property
    def loaded(self) -> LoadedModel:
        return self.model.loaded

    @property
    def config(self) -> SpearConfig:
        """How the present model learns."""
        return self.model.config

    @property
    def shared_models(self) -> SharedBaseModels:
        return self.model.shared_models

    @property
    def encoder(self) -> Encoder:
        return self.model.encoder

    @property
    def base(self) -> str:
        """The fingerprint of the base model: adapters, traces and rounds are kept apart by it."""
        return self.loaded.fingerprint

    @property
    def gives_refused(self) -> bool:
        """Whether a confirmed answer that the gate refused is given from memory."""
        return self.config.memory and self.config.scope != "always"

    def as_trained(self, prompt: Messages) -> list[dict[str, str]]:
        """What training sees of a prompt: with `memory`, a question that stands alone without what was said before."""
        return list(standing_alone(prompt) if self.config.memory else prompt)

    @property
    def pad_id(self) -> int:
        return padding_token_id(self.loaded.tokenizer)

    @property
    def max_new_tokens(self) -> int:
        return min(self.config.max_new_tokens, self.loaded.settings.max_new_tokens)

    def files_of(self, adapter: Adapter) -> Path:
        """The folder of a stored adapter. Raises AdapterInvalid for one elsewhere, which a foreign database may name."""
        folder = self.data_folder / adapter.folder
        if folder.resolve().parent.parent != (self.data_folder / "adapters").resolve():
            raise AdapterInvalid(f"the folder of adapter v{adapter.version} is not one of the data folder")
        return folder

    def adapter_folder(self, version: int) -> Path:
        return self.data_folder / "adapters" / self.base / f"v{version:05d}"
