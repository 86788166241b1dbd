"""What a user prefers in all conversations: kept in the store for each user, over what the instance was started with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.engine import Engine

LEARNS_CORRECTIONS, SYSTEM_PROMPT = "learn_from_corrections", "system_prompt"

MAX_SYSTEM_PROMPT_CHARACTERS = 100_000


@dataclass(frozen=True)
class ChatDefaults:
    """For users who have chosen nothing; from the settings of the instance."""

    learn_from_corrections: bool = False
    system_prompt: str = ""


class Preferences:
    """Of the user whose store the engine has."""

    def __init__(self, engine: Engine) -> None:
        self._store = engine.store
        self._defaults = engine.chat_defaults

    @property
    def learns_corrections(self) -> bool:
        """Whether corrections made by talking are learned without asking."""
        return bool(self._store.preference(LEARNS_CORRECTIONS, self._defaults.learn_from_corrections))

    def set_learns_corrections(self, value: bool) -> None:
        self._store.set_preference(LEARNS_CORRECTIONS, value)

    @property
    def system_prompt(self) -> str:
        """What the model is told before everything else where a conversation says nothing itself."""
        return str(self._store.preference(SYSTEM_PROMPT, self._defaults.system_prompt))

    def set_system_prompt(self, text: str) -> None:
        self._store.set_preference(SYSTEM_PROMPT, text.strip()[:MAX_SYSTEM_PROMPT_CHARACTERS])
