"""The settings of the app. Frozen and checked once. Files are read by settings_file.py, flags by app.py."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from services.peers.settings import FederationSettings
from spear_core.config import PRESETS, SpearConfig, preset
from spear_core.errors import ConfigError

if TYPE_CHECKING:  # torch takes seconds to import, and `--help` needs the settings only
    from spear_core.models.loading import LoadedModel

AUTO = "auto"
DEEP_LAYERS = 12
MIN_LEARN_INTERVAL_SECONDS, MAX_LEARN_INTERVAL_SECONDS = 0.1, 86_400.0
MAX_MESSAGE_CHARACTERS = 100_000  # of a message, a hint and an edit; not settable, and here as light modules need it


@dataclass(frozen=True)
class Settings:
    """Raises ConfigError for a value that is not allowed. `spear` overrides single keys of the preset.

    docs/SETTINGS.md and `--help` are made from the annotations (cli/settings_docs.py).
    """

    model: Annotated[
        str,
        "`smollm2`, `pocket`, a folder, a GGUF file, or the Hub name of a language model; `auto`: `smollm2` where "
        "its package is installed, else `pocket`",
    ]
    data_folder: Annotated[Path, "where everything is kept; `SPEAR_DATA` names it too"]
    host: Annotated[str, "address to listen on; one beyond this machine needs `auth_file` or `insecure`"] = "127.0.0.1"
    port: Annotated[int, "port to listen on; 0 for any free one"] = 7860
    auth_file: Annotated[
        Path | None,
        "users and their roles, made by `python app.py users add`; not set: one person, no login",
    ] = None
    insecure: Annotated[
        bool,
        "listen beyond this machine without a login, and answer under any host name: everybody who reaches the "
        "port is the owner",
    ] = False
    trusted_proxies: Annotated[
        tuple[str, ...],
        'addresses or networks of reverse proxies, such as `["127.0.0.1"]`, whose `X-Forwarded-For` and '
        "`X-Forwarded-Proto` are believed; flag: `--trusted-proxy`, repeatable",
    ] = ()
    preset: Annotated[
        str,
        "what `[spear]` starts from: `live` (fast corrections on a small model), `general` (the same for a "
        "language model of many layers), `paper` (as published); `auto` takes what the model's folder names, "
        "else `general` from 12 layers on and `live` below",
    ] = AUTO
    device: Annotated[
        str,
        "`cpu`, `cuda`, `mps`, or `auto`: a GPU where the whole model fits into its free memory, else the CPU",
    ] = "cpu"
    threads: Annotated[int, "CPU threads; 0 for automatic"] = 0
    seed: Annotated[int, "seed of training"] = 1
    system_prompt: Annotated[
        str,
        "what the model is told before everything else, where neither the conversation nor the user says something else",
    ] = ""
    learn_from_corrections: Annotated[
        bool,
        'learn what a message such as "no, it\'s Oslo" corrects without asking; each user may choose otherwise on the page',
    ] = False
    learn_interval_seconds: Annotated[
        float, "between looks for work, 0.1 to 86400; a confirmation starts a round at once"
    ] = 5.0
    verbose: Annotated[bool, "log what the app does to stderr"] = False
    spear: dict[str, Any] = field(default_factory=dict)
    federation: FederationSettings = field(default_factory=FederationSettings)

    def __post_init__(self) -> None:
        if self.preset not in (AUTO, *PRESETS):
            raise ConfigError(f"unknown preset {self.preset!r}; there are: {', '.join([AUTO, *PRESETS])}")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} is not a port; it must be 0 to 65535")
        if self.threads < 0:
            raise ConfigError(f"threads = {self.threads} is not allowed; it must be 0 (automatic) or more")
        if not MIN_LEARN_INTERVAL_SECONDS <= self.learn_interval_seconds <= MAX_LEARN_INTERVAL_SECONDS:
            raise ConfigError(
                f"learn_interval_seconds = {self.learn_interval_seconds} is not allowed; it must be "
                f"{MIN_LEARN_INTERVAL_SECONDS:g} to {MAX_LEARN_INTERVAL_SECONDS:g}"
            )
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
        if is_part_of_program(self.data_folder):
            raise ConfigError(
                f"the data folder {self.data_folder} belongs to the program itself, and erasing the data would delete parts "
                "of it; choose another with --data-folder"
            )
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


def is_part_of_program(folder: Path) -> bool:
    """Whether a folder is a copy of this program, or lies in one of its packages. `data` beside app.py is neither."""
    inside = Path(os.path.realpath(folder))
    for root in (inside, *inside.parents):
        if os.path.isfile(root / "app.py") and os.path.isdir(root / "spear_core"):
            top = inside.relative_to(root).parts[:1]
            return not top or os.path.isfile(root.joinpath(*top, "__init__.py"))
    return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`. A name that is not `localhost` counts as outside."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
