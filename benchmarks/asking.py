"""Asking a workbench's model many questions at once, outside its conversations."""

from __future__ import annotations

from collections.abc import Sequence

from pocket.evaluation import Conversation
from services.app import AppServices
from spear_core.inference.rollout import answer_all

BATCH_SIZE = 64


def answers(app: AppServices, conversations: Sequence[Conversation], *, frozen: bool = False) -> list[str]:
    """Greedy answers of what serves now, or of the untouched model."""
    engine = app.engine
    return answer_all(
        engine.shared_models.base if frozen else engine.shared_models.serving.model,
        engine.loaded.tokenizer,
        conversations,
        context_tokens=engine.loaded.context_tokens,
        max_new_tokens=engine.max_new_tokens,
        batch_size=BATCH_SIZE,
    )
