"""Versions of the adapter: which one serves; promotion, undoing, pinning and pruning. No training."""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections.abc import Collection, Sequence
from typing import Any

from feedback_store import Adapter, NewAdapter, ProofRecord, Round, RoundFigures, Trace
from services.engine import Engine
from services.learning.peer_questions import ByPeer
from services.learning.round_lock import RoundLock
from services.views import AdapterView, VersionStatus
from spear_core.config import SpearConfig
from spear_core.errors import AdapterInvalid, ConfigError, SpearError
from spear_core.models.adapters import AdapterShape, load_adapter, lora_shape, save_adapter
from spear_core.models.shared_base import AdapterState, lora_config

log = logging.getLogger(__name__)
RECENT_KEPT = 20  # newest versions, which are never pruned


class Lineage:
    """Keeps store, files and serving model in step. What changes one of them raises RuntimeError without the round lock."""

    def __init__(self, engine: Engine, lock: RoundLock) -> None:
        self.lock = lock
        self._engine = engine
        self._store = engine.store
        self.state: AdapterState | None = None  # tensors of the adapter that serves; None for the base model
        self.complaint = ""  # about a damaged adapter that was skipped, for the card

    @property
    def version(self) -> int:
        """The active version; 0 is the base model."""
        return self._store.active_version(self._engine.base)

    def depth(self, version: int) -> int:
        """The number of adapters in a version's lineage, including itself. Part of a round's seed."""
        return len(self._store.lineage(self._engine.base, version))

    def seed(self, version: int, taught: Sequence[Trace] = ()) -> int:
        """The seed of a round on top of a version.

        The same traces on the same depth give the same seed, so that training again after a forgetting is exact. Other
        traces give another one: with the depth alone, a correction refused because of unlucky draws would be followed by
        others with the same draws.
        """
        said = json.dumps([(t.side, t.prompt, t.completion) for t in taught])
        return self._engine.seed * 1_000_003 + self.depth(version) + zlib.crc32(said.encode())

    def read(self, version: int) -> AdapterState | None:
        """The tensors of a version; None for version 0. Raises AdapterInvalid where its files are damaged or changed."""
        if version == 0:
            return None
        adapter = self._store.adapter(self._engine.base, version)
        return load_adapter(self._engine.files_of(adapter), adapter.sha256)

    def check_shape(self, base: str, config: SpearConfig, version: int | None = None) -> None:
        """Raises ConfigError where an adapter has another rank, alpha or layers than `config` says.

        It is that of `version`, by default of the base model's active one.
        """
        version = self._store.active_version(base) if version is None else version
        if not version:
            return
        folder = self._engine.data_folder
        was = lora_shape(self._engine.files_of(self._store.adapter(base, version)))
        now = AdapterShape(config.lora_rank, config.lora_alpha, config.lora_layers)
        if was and was != now:
            raise ConfigError(
                f"the adapters in {folder} have {was.words}, the settings say {now.words}: set lora_rank = {was.rank}, "
                f'lora_alpha = {was.alpha} and lora_layers = "{was.layers}" under [spear], or choose another --data-folder'
            )

    def serve_active(self) -> None:
        """Serve the active version, or its newest intact ancestor where its files are damaged (see `complaint`).

        Raises ConfigError as `check_shape`, before anything changes.
        """
        self.lock.require()
        base, version = self._engine.base, self.version
        self.check_shape(base, self._engine.config)
        self.complaint = ""
        while True:
            try:
                self.state = self.read(version)
                break
            except AdapterInvalid as e:
                parent = self._parent_with_files(version)
                self.complaint = f"{e}. Serving v{parent} instead."
                log.error("%s", self.complaint)
                self._store.set_active(base, parent)
                version = parent
        self._engine.shared_models.publish(self.state, version)

    def _parent_with_files(self, version: int) -> int:
        """The nearest ancestor that was not pruned; 0 is the base model."""
        below = self._store.lineage(self._engine.base, version)[1:]
        return next((adapter.version for adapter in below if adapter.status != "pruned"), 0)

    def promote(
        self,
        round_: Round,
        trace_ids: Collection[str],
        state: AdapterState,
        figures: RoundFigures,
        *,
        verdict: str,
        proof: ProofRecord | None,
        replayed: int,
    ) -> int:
        """Write the adapter of a round, make it active and serve it, in this order. Returns the new version.

        A kill at any moment leaves the old or the new version active.

        Args:
            round_: running; it is promoted.
            trace_ids: what the adapter was trained on; other traces of the round become skipped.
            state: the adapter's tensors.
            figures: stored with the round, and without quotations with the adapter.
            verdict: the gate's verdict in words.
            proof: the answers before and after.
            replayed: how many older wins were trained again.

        Raises:
            TracesWithdrawn: one of the traces was withdrawn meanwhile.
        """
        self.lock.require()
        new = self._write(state, round_.parent_version, figures, round=round_.id, traces=list(trace_ids))
        self._store.promote(
            round_.id,
            new,
            figures=figures,
            verdict=verdict,
            proof=proof,
            replayed=replayed,
            trained_ids=list(trace_ids),
        )
        return self._serve(state, new.version)

    def adopt(self, state: AdapterState, figures: RoundFigures, peer_questions: ByPeer | None = None) -> int:
        """The same for an adapter that no round made: of a merge, a consolidation or an upload. Returns its version.

        `peer_questions`: of a merge, what its peers were taught, where that is known.
        """
        self.lock.require()
        new = self._write(state, self.version, figures)
        self._store.add_adapter(new, peer_questions)
        return self._serve(state, new.version)

    def _write(self, state: AdapterState, parent: int, figures: RoundFigures, **made_by: Any) -> NewAdapter:
        engine, base = self._engine, self._engine.base
        figures = figures.without_quotations()
        version = self._store.next_version(base)
        folder = engine.adapter_folder(version)
        manifest = {
            "base": base,
            "version": version,
            "parent_version": parent,
            **made_by,
            "figures": figures.to_dict(),
            "lora_layers": engine.config.lora_layers,
        }
        sha256 = save_adapter(
            folder, state, lora_config(engine.config, engine.shared_models.base), engine.loaded.name, manifest
        )
        relative = str(folder.relative_to(engine.data_folder))
        return NewAdapter(base, version, parent, relative, sha256, figures)

    def _serve(self, state: AdapterState, version: int) -> int:
        self.state = state
        self._engine.shared_models.publish(state, version)
        return version

    def roll_back(self) -> int:
        """Serve the previous version again. Returns it. Raises SpearError where there is none."""
        self.lock.require()
        if not self.version:
            raise SpearError("There is nothing to undo: the base model answers.")
        self._store.roll_back(self._engine.base)
        self.serve_active()
        return self.version

    def restore(self, version: int) -> int:
        """Serve a version that was undone again. Returns it.

        Raises UnknownRecord, ConfigError as `check_shape`, and SpearError where it cannot be restored.
        """
        self.lock.require()
        status = self._store.adapter(self._engine.base, version).status
        if status != "rolled_back":
            raise SpearError(
                f"v{version} cannot be restored: it was {'deleted' if status == 'pruned' else 'not undone'}."
            )
        # both raise before anything changes; the settings may be others than when it was trained
        self.check_shape(self._engine.base, self._engine.config, version)
        self.read(version)
        self._store.restore(self._engine.base, version)
        self.serve_active()
        return self.version

    def undone(self) -> int:
        """The newest version above the active one that was undone and whose files are kept; 0 where there is none."""
        return self._store.newest_undone(self._engine.base)

    def pin(self, version: int, pinned: bool) -> None:
        """Pin a version, so that it is never pruned, or unpin it. Raises UnknownRecord."""
        self._store.set_pinned(self._engine.base, version, pinned)

    def prune(self) -> int:
        """Delete files of old versions. Returns how many were deleted.

        The active version, pinned ones and the RECENT_KEPT newest are kept. Of older ones, half as many are kept each time
        the distance to the newest doubles.
        """
        self.lock.require()
        base, active = self._engine.base, self.version
        adapters = self._store.adapters(base)
        newest = adapters[0].version if adapters else 0
        deleted = 0
        for adapter in adapters[RECENT_KEPT:]:
            if adapter.status == "pruned" or adapter.pinned or adapter.version == active:
                continue
            spacing = 1 << ((newest - adapter.version) // RECENT_KEPT).bit_length()
            if adapter.version % spacing:
                self._store.mark_pruned(base, adapter.version)
                self._delete_files(adapter)
                deleted += 1
        return deleted

    def delete_versions(self, adapters: Collection[Adapter]) -> None:
        """Delete the files of forgotten versions, which the store has as pruned, of any base model."""
        self.lock.require()
        for adapter in adapters:
            self._delete_files(adapter)

    def delete_unknown_files(self) -> None:
        """Delete adapter folders without a row, and those of pruned versions of every base model.

        A kill leaves them: between writing and promoting, and between pruning or forgetting and deleting.
        """
        self.lock.require()
        folder = self._engine.adapter_folder(1).parent
        known = {self._engine.data_folder / a.folder for a in self._store.adapters(self._engine.base)}
        for child in folder.iterdir() if folder.is_dir() else ():
            if child.is_dir() and child not in known:
                shutil.rmtree(child, ignore_errors=True)
        for of_base in folder.parent.iterdir() if folder.parent.is_dir() else ():
            for adapter in self._store.adapters(of_base.name):
                if adapter.status == "pruned":
                    self._delete_files(adapter)

    def _delete_files(self, adapter: Adapter) -> None:
        try:
            shutil.rmtree(self._engine.files_of(adapter), ignore_errors=True)
        except AdapterInvalid as e:
            log.warning("nothing was deleted: %s", e)

    def views(self, limit: int | None = None) -> list[AdapterView]:
        """All versions of this base model, or the `limit` newest, newest first."""
        active, adapters = self.version, self._store.adapters(self._engine.base, limit)
        if limit is None:
            rounds = {r.id: r for r in self._store.rounds(self._engine.base, limit=10_000)}
        else:
            rounds = {a.round_id: self._store.round(a.round_id) for a in adapters if a.round_id is not None}
        views = []
        for a in adapters:
            made_by = rounds.get(a.round_id) if a.round_id is not None else None
            status: VersionStatus = "live" if a.version == active else a.status
            figures = a.figures
            words, wins, loses = figures.merge.words if figures.merge else "", 0, 0
            if made_by:
                words, wins, loses = made_by.verdict, made_by.wins, made_by.loses
            source = "" if made_by else figures.source or "merged"
            views.append(
                AdapterView(
                    a.version,
                    a.parent_version,
                    status,
                    a.created_at_utc,
                    words,
                    wins,
                    loses,
                    a.pinned,
                    source,
                    steps=figures.steps or 0,
                    seconds=figures.round_seconds,
                    drift=figures.after.probe_changed if figures.after else None,
                )
            )
        return views
