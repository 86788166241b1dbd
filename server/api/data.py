"""/v1/data: export, import, backup, restore, erase. Owners only.

An export through here holds the asking owner's own conversations: what users say is visible to nobody else. Everybody's
is exported, and a backup's file read, by whoever has the machine (`python app.py data`).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from feedback_store.transfer import Wanted
from server.api.asking import Asker, Session, Whole
from services.accounts.permissions import require_owner
from services.data import backups
from services.data.backup_contents import backup_views, erase_from_backups
from services.data.feedback_files import check_format, export_lines
from services.data.feedback_import import import_file
from services.data.trl_rows import moment


def _owners(user: Asker) -> None:
    require_owner(user, "export, import, back up, restore or erase data")


router = APIRouter(prefix="/v1/data", dependencies=[Depends(_owners)])
MEDIA_TYPE = "application/jsonl"
SKIPPED_SHOWN = 100  # with their reasons; all are counted


class Restore(BaseModel):
    model_config = ConfigDict(extra="forbid")
    file: str


class Erase(BaseModel):
    model_config = ConfigDict(extra="forbid")
    confirm: Literal["erase everything"]


@router.get("/export")
def export(
    session: Session,
    format: str = "preference",
    since: str | None = None,
    until: str | None = None,
    status: Annotated[list[str] | None, Query()] = None,
) -> StreamingResponse:
    """JSON lines of what the asking owner said."""
    given: dict[str, Any] = {"statuses": tuple(status)} if status else {}
    if since:
        given["since"] = moment(since)
    if until:
        given["until"] = moment(until)
    return StreamingResponse(export_lines(session.store, format, Wanted(**given)), media_type=MEDIA_TYPE)


@router.post("/import")
async def import_(
    request: Request, session: Session, whole: Whole, format: str = "preference", skip_bad: bool = False
) -> dict[str, Any]:
    """JSON lines, a JSON array or Parquet in, as the asking owner's; what is new is learned."""
    check_format(format)
    body = await request.body()
    done = await run_in_threadpool(import_file, session.store, format, body, whole.engine.base, skip_bad=skip_bad)
    whole.learning.kick()
    shown = [asdict(skipped) for skipped in done.skipped[:SKIPPED_SHOWN]]
    return {
        "object": "import",
        "format": format,
        "added": done.added,
        "skipped": len(done.skipped),
        "skipped_rows": shown,
    }


@router.post("/backup")
def back_up(whole: Whole) -> dict[str, Any]:
    """Into `backups/` of the data folder."""
    return _view(backups.back_up(whole.engine.store, whole.engine.data_folder))


@router.get("/backups")
def list_backups(whole: Whole) -> dict[str, Any]:
    """Newest first, each with how much it holds that was forgotten or deleted since."""
    views = backup_views(whole.engine.store, whole.engine.data_folder)
    return {"object": "list", "data": [{"object": "backup", **asdict(view)} for view in views]}


@router.delete("/backups")
def erase_from_backups_too(whole: Whole) -> dict[str, Any]:
    """Make a new backup, then delete those that hold what was forgotten or deleted since."""
    deleted = erase_from_backups(whole.engine.store, whole.engine.data_folder)
    return {"object": "backups.deleted", "deleted": deleted}


@router.post("/restore")
def restore(asked: Restore, whole: Whole) -> dict[str, Any]:
    """Put everything back; what was there before is backed up first."""
    folder = whole.engine.data_folder
    archive = backups.find_backup(folder, asked.file)
    before = backups.restore(whole.engine.store, folder, archive, whole.learning.exchange)
    return {"object": "restore", "file": asked.file, "before": before.name}


@router.delete("")
def erase(asked: Erase, whole: Whole) -> dict[str, Any]:
    """Everything that anybody said and the model learned, backups and the peer key included."""
    whole.erase()
    return {"object": "data.deleted", "deleted": True}


def _view(path: Path) -> dict[str, Any]:
    return {"object": "backup", "file": path.name, "bytes": path.stat().st_size}
