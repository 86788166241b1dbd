"""Preferences of a user for all conversations, stored for each user, with defaults from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.engine import Engine

LEARNS_CORRECTIONS, SYSTEM_PROMPT = "learn_from_corrections", "system_prompt"

MAX_SYSTEM_PROMPT_CHARACTERS = 100_000


@dataclass(frozen=True)
class ChatDefaults:
    """The defaults of the instance, from its settings."""

    learn_from_corrections: bool = False
    system_prompt: str = ""


class Preferences:
    """The preferences of the user whose store the engine has."""

    def __init__(self, engine: Engine) -> None:
        self._store = engine.store
        self._defaults = engine.chat_defaults

    @property
    def learns_corrections(self) -> bool:
        """Whether corrections made by talking are learned without asking."""
        return bool(self._store.preference(LEARNS_CORRECTIONS, self._defaults.learn_from_corrections))

    def set_learns_corrections(self, value: bool) -> None:
        """Set whether corrections made by talking are learned without asking."""
        self._store.set_preference(LEARNS_CORRECTIONS, value)

    @property
    def system_prompt(self) -> str:
        """The system prompt of conversations that set none."""
        return str(self._store.preference(SYSTEM_PROMPT, self._defaults.system_prompt))

    def set_system_prompt(self, text: str) -> None:
        """Set the default system prompt; an empty one means none."""
        self._store.set_preference(SYSTEM_PROMPT, text.strip()[:MAX_SYSTEM_PROMPT_CHARACTERS])
