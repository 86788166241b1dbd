"""/v1/adapters, /v1/learning, /v1/learned: what the model has learned, and, for owners, rollback and restore."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, StrictBool

from server.api.asking import Limit, Session
from services.views import LearningStatus

router = APIRouter()


class Pin(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pinned: StrictBool


class Pause(BaseModel):
    model_config = ConfigDict(extra="forbid")
    paused: StrictBool


def status_view(status: LearningStatus) -> dict[str, Any]:
    return {"object": "learning", **asdict(status)}


@router.get("/v1/learning")
def status(session: Session) -> dict[str, Any]:
    """What the status card shows."""
    return status_view(session.learning.status())


@router.post("/v1/learning")
def pause(asked: Pause, session: Session) -> dict[str, Any]:
    """Owners: start no further round, or go on."""
    (session.learning.pause if asked.paused else session.learning.resume)()
    return status_view(session.learning.status())


@router.get("/v1/adapters")
def adapters(session: Session) -> dict[str, Any]:
    """All versions, newest first."""
    views = [{"object": "adapter", **asdict(view)} for view in session.learning.adapters()]
    return {"object": "list", "active_version": session.learning.status().adapter_version, "data": views}


@router.post("/v1/adapters/rollback")
def roll_back(session: Session) -> dict[str, Any]:
    """Owners: serve the previous adapter."""
    return {"object": "adapters.rollback", "active_version": session.learning.roll_back()}


@router.post("/v1/adapters/{version}/restore")
def restore(version: int, session: Session) -> dict[str, Any]:
    """Owners: serve an undone version again, with the corrections that it had learned."""
    return {"object": "adapters.restore", "active_version": session.learning.restore(version)}


@router.post("/v1/adapters/{version}/pin")
def pin(version: int, asked: Pin, session: Session) -> dict[str, Any]:
    """Owners: keep a version from being deleted when there are many, or no longer."""
    session.learning.pin(version, asked.pinned)
    return {"object": "adapter", "version": version, "pinned": asked.pinned}


@router.get("/v1/adapters/{version}/zip")
def download(version: int, session: Session) -> Response:
    """Owners: a version as a zipped PEFT folder."""
    return _file(session.adapter_files.download, version, "application/zip")


@router.get("/v1/adapters/{version}/gguf")
def download_gguf(version: int, session: Session) -> Response:
    """Owners: a version as a GGUF file, which llama.cpp loads beside the base model's."""
    return _file(session.adapter_files.download_gguf, version, "application/octet-stream")


def _file(write: Callable[[int, Path], Path], version: int, media_type: str) -> Response:
    with tempfile.TemporaryDirectory(prefix="spear-adapter-") as scratch:
        file = write(version, Path(scratch))
        content, name = file.read_bytes(), file.name
    attached = {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}"}
    return Response(content, media_type=media_type, headers=attached)


@router.get("/v1/learned")
def learned(session: Session, limit: Limit = 200) -> dict[str, Any]:
    """What the asking user said about replies, newest first."""
    views = [{"object": "learned", **asdict(view)} for view in session.learning.learned(limit)]
    return {"object": "list", "data": views}


@router.get("/v1/learned/others")
def learned_by_others(session: Session, limit: Limit = 200) -> dict[str, Any]:
    """Owners: where others gave feedback, without a word or vote of theirs."""
    shown = ("message_id", "user", "version", "status", "created_at_utc")
    views = [{key: getattr(view, key) for key in shown} for view in session.learning.learned_by_others(limit)]
    return {"object": "list", "data": [{"object": "learned", **view} for view in views]}


@router.delete("/v1/learned/{message_id}")
def forget(message_id: str, session: Session) -> dict[str, Any]:
    """Forget what was said about a reply: one's own, and, for owners, anybody's."""
    done = session.learning.forget([message_id])
    return {
        "object": "learned.deleted",
        "message_id": message_id,
        "deleted": True,
        "rounds_trained_again": done.rounds,
        "versions_removed": done.undone,
        "active_version": done.version,
    }
