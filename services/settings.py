"""What the app is started with. Frozen, checked once; no flags, no environment, no file (settings_file.py)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.peers.settings import FederationSettings
from spear_core.config import PRESETS, SpearConfig, preset
from spear_core.errors import ConfigError
from spear_core.models.loading import LoadedModel

AUTO = "auto"
DEEP_LAYERS = 12


@dataclass(frozen=True)
class Settings:
    """Raises ConfigError for a value that is not allowed. `spear` overrides single keys of the preset.

    docs/SETTINGS.md says what each key means.
    """

    model: str
    data_folder: Path
    host: str = "127.0.0.1"
    port: int = 7860
    auth_file: Path | None = None  # users, made by `app.py users`; None: one person, no login
    insecure: bool = False  # listen beyond this machine although nobody has to log in
    trusted_proxies: tuple[str, ...] = ()  # whose word about the visitor's address is believed; addresses or networks
    preset: str = AUTO  # chosen for the model: what its folder says, or by its depth
    device: str = "cpu"
    threads: int = 0  # 0: as many as torch chooses
    seed: int = 1
    system_prompt: str = (
        ""  # told before everything else where a conversation says nothing; each user may choose another
    )
    learn_from_corrections: bool = False  # made by talking, without asking; each user may choose otherwise
    learn_interval_seconds: float = 5.0  # fallback; a confirmation starts a round at once
    verbose: bool = False
    spear: dict[str, Any] = field(default_factory=dict)
    federation: FederationSettings = field(default_factory=FederationSettings)

    def __post_init__(self) -> None:
        if self.preset not in (AUTO, *PRESETS):
            raise ConfigError(f"unknown preset {self.preset!r}; there are: {', '.join([AUTO, *PRESETS])}")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} is not a port; it must be 0 to 65535")
        if self.threads < 0:
            raise ConfigError(f"threads = {self.threads} is not allowed; it must be 0 (automatic) or more")
        if not self.learn_interval_seconds > 0:
            raise ConfigError("learn_interval_seconds must be above 0")
        if self.auth_file is None and not self.insecure and not is_loopback(self.host):
            raise ConfigError(
                f"listening on {self.host} would let everyone on the network in; make users with "
                "`python app.py users add` and name their file with --auth-file, or give --insecure"
            )
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as e:
                raise ConfigError(
                    f"trusted_proxies: {proxy!r} is no address or network; write 127.0.0.1 or 10.0.0.0/8"
                ) from e
        self.config()

    def config(self) -> SpearConfig:
        """Before a model is known: `auto` counts as `live`."""
        return preset("live" if self.preset == AUTO else self.preset, **self.spear)

    def config_for(self, loaded: LoadedModel) -> SpearConfig:
        """What this model learns with. Raises ConfigError where its folder names a preset that does not exist."""
        return preset(preset_for(loaded) if self.preset == AUTO else self.preset, **self.spear)


def preset_for(loaded: LoadedModel) -> str:
    """The preset that a model's folder names, or `general` for a deep one: a shallow one needs LoRA in all its layers."""
    layers = getattr(loaded.model.config.get_text_config(), "num_hidden_layers", 0)
    return loaded.settings.preset or ("general" if layers >= DEEP_LAYERS else "live")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`. A name that is not `localhost` counts as outside."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
