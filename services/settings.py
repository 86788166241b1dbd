"""What the app is started with. Frozen, checked once; no flags, no environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.federation_settings import FederationSettings
from spear_core.config import PRESETS, SpearConfig, preset
from spear_core.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """Raises ConfigError for a value that is not allowed. `spear` overrides single keys of the preset."""

    model: str
    data_folder: Path
    host: str = "127.0.0.1"
    port: int = 7860
    preset: str = "live"
    device: str = "cpu"
    threads: int = 0  # 0: as many as torch chooses
    seed: int = 1
    learn_interval_seconds: float = 5.0  # fallback; a confirmation starts a round at once
    spear: dict[str, Any] = field(default_factory=dict)
    federation: FederationSettings = field(default_factory=FederationSettings)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"unknown preset {self.preset!r}; there are: {', '.join(PRESETS)}")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} is not a port; it must be 0 to 65535")
        if self.threads < 0:
            raise ConfigError(f"threads = {self.threads} is not allowed; it must be 0 (automatic) or more")
        if self.learn_interval_seconds <= 0:
            raise ConfigError("learn_interval_seconds must be above 0")

    def config(self) -> SpearConfig:
        return preset(self.preset, **self.spear)
