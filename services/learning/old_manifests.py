"""Removes hints that earlier versions of the app wrote into adapter manifests, which forgetting does not erase."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from feedback_store import Store
from spear_core.models.adapters import MANIFEST

log = logging.getLogger(__name__)
DONE = "manifests_without_words"


def erase_from_manifests(store: Store, data_folder: Path) -> int:
    """Replace hints in manifests by a mark, once for each store. Returns how many manifests had some.

    A manifest that cannot be read or written is logged and tried again at the next start.
    """
    if store.setting(DONE, False):
        return 0
    erased, failed = 0, False
    for path in (data_folder / "adapters").glob(f"*/*/{MANIFEST}"):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest.get("figures", {}).get("wishes"):
                manifest["figures"]["wishes"] = [""]
                _write(path, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
                erased += 1
        except (OSError, ValueError, AttributeError) as e:
            failed = True
            log.warning("%s may quote a hint, and that cannot be erased: %s", path, e)
    if not failed:
        store.set_setting(DONE, True)
    return erased


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
