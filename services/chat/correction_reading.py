"""The correction classifier of the base model that serves, loaded from beside its weights when it is first needed."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from spear_core.errors import ConfigError
from spear_core.inference.correction_classifier import FILE, CorrectionClassifier, load_correction_classifier

if TYPE_CHECKING:
    from services.engine import Engine

log = logging.getLogger(__name__)


class CorrectionReading:
    """Gives the classifier of an engine's base model. Thread-safe."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._of: tuple[str, CorrectionClassifier | None] = ("", None)

    def classifier(self, engine: Engine) -> CorrectionClassifier | None:
        """None for a model that has none, or whose file cannot be used: then the words decide."""
        base, found = self._of
        if base != engine.base:
            with self._loading:
                base, found = self._of
                if base != engine.base:
                    found = _loaded(engine)
                    self._of = engine.base, found
        return found


def _loaded(engine: Engine) -> CorrectionClassifier | None:
    file = Path(engine.loaded.name) / FILE
    if not file.is_file():
        return None
    try:
        return load_correction_classifier(file, engine.shared_models.base.base_model, engine.loaded.tokenizer)
    except ConfigError as e:
        log.warning("%s; corrections in the conversation are told by their words alone", e)
        return None
