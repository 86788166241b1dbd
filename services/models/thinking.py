"""Whether a thinking model thinks before it answers, as chosen for each model. The choice is in the store."""

from __future__ import annotations

from dataclasses import replace

from feedback_store import Store
from spear_core.models.chat_template import can_switch_thinking, is_switched_off, with_thinking
from spear_core.models.loading import LoadedModel

CHOSEN = "thinking"  # fingerprint -> whether the model thinks; those that are not in it do


def thinks(loaded: LoadedModel) -> bool | None:
    """Whether the model thinks before it answers; None where its chat template has no switch for that."""
    return not is_switched_off(loaded.tokenizer) if can_switch_thinking(loaded.tokenizer) else None


def as_chosen(store: Store, loaded: LoadedModel) -> LoadedModel:
    """The model, told whether to think."""
    chosen: dict[str, bool] = store.setting(CHOSEN, {})
    if loaded.fingerprint not in chosen or thinks(loaded) is None:
        return loaded
    return replace(loaded, tokenizer=with_thinking(loaded.tokenizer, chosen[loaded.fingerprint]))


def remember(store: Store, base: str, is_thinking: bool) -> None:
    """Keep the choice for a model, named by its fingerprint."""
    store.set_setting(CHOSEN, {**store.setting(CHOSEN, {}), base: is_thinking})
