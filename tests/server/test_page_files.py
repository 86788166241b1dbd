"""No file of the machine leaves through the page: a reference to one is refused in every event, whoever sends it.

The planted file is harmless. Gradio would copy a file that an event names into its own folder and then serve the copy.
"""

from __future__ import annotations

import io
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio.context import LocalContext
from gradio.exceptions import InvalidPathError
from gradio.processing_utils import move_files_to_cache
from starlette.routing import Mount

from services.accounts.users_file import Accounts
from services.app import open_services
from services.settings import Settings
from tests.faults.quick import open_quick
from tests.pocket_model import POCKET_MODEL
from tests.server.page_client import Client
from tests.server.running import Running, add_users, running
from tests.services.harness import ask

WORDS = f"planted-{secrets.token_hex(8)}"
ROLES = ("local", "cora", "anna")  # whoever reaches an instance without logins; a guest; an owner


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("elsewhere") / "planted.txt"
    file.write_text(WORDS)
    return file


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Gradio's folder of uploads and copies, empty at first."""
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def local(copies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An instance without logins."""
    app_services = open_quick(tmp_path_factory.mktemp("local") / "data")
    with running(app_services) as started:
        yield started
    app_services.close()


@pytest.fixture(scope="module")
def shared(copies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An instance with logins."""
    folder = tmp_path_factory.mktemp("shared")
    keys = add_users(folder / "users.json")
    app_services = open_services(Settings(model=str(POCKET_MODEL), data_folder=folder / "data"), start_jobs=False)
    with running(app_services, Accounts(folder / "users.json"), keys) as started:
        yield started
    app_services.close()


@pytest.fixture(params=ROLES)
def client(request: pytest.FixtureRequest, local: Running, shared: Running) -> Iterator[Client]:
    role: str = request.param
    http = httpx.Client(base_url=local.url, timeout=60) if role == "local" else shared.logged_in(role)
    yield Client(role, http)
    http.close()


def references(path: str) -> list[Any]:
    """The shapes in which Gradio, now or earlier, takes a value for a file; also where they are nested."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "planted.txt", "size": 1}
    return [
        file,
        {"path": path},
        {**file, "url": f"/gradio_api/file={path}"},
        {"name": path, "is_file": True},
        [[file]],
        {"text": "hello", "files": [file]},
        {"deep": {"deeper": [{"deepest": file}]}},
    ]


def leaked(copies: Path) -> list[Path]:
    return [file for file in copies.rglob("*") if file.is_file() and WORDS in file.read_text(errors="replace")]


def test_a_reference_to_a_file_is_refused_in_every_event(client: Client, planted: Path, copies: Path) -> None:
    assert len(client.events) > 50
    refuses(client, references(str(planted))[:1])
    assert not leaked(copies)


@pytest.mark.slow
def test_every_shape_of_a_reference_is_refused_in_every_event(client: Client, planted: Path, copies: Path) -> None:
    refuses(client, references(str(planted))[1:])
    assert not leaked(copies)


def refuses(client: Client, found: list[Any]) -> None:
    """Every event refuses these references: as its inputs, in what came with it, and as that."""
    for event in client.events:
        for reference in found:
            inputs = [reference] * max(1, len(event["inputs"]))
            words = ["x"] * len(event["inputs"])
            for data, said in ((inputs, None), (words, {"id": reference, "value": reference}), (words, reference)):
                answer = client.fire(event, data, said)
                assert "cannot be read" in answer and "process_completed" not in answer, (event["api_name"], answer)


def test_the_other_way_of_sending_an_event_refuses_it_too(client: Client, planted: Path, copies: Path) -> None:
    event = client.events[0]
    body = {"data": references(str(planted))[:1], "fn_index": event["id"], "session_hash": "x"}
    for path in ("run/predict", f"run/{event['api_name']}", "queue/join/", "call/x", "api/predict"):
        answer = client.http.post(f"/gradio_api/{path}", json=body)
        assert answer.status_code in (307, 400, 404), (path, answer.status_code)
    assert not leaked(copies)


def test_gradio_itself_refuses_a_path_outside_its_folder(local: Running, planted: Path) -> None:
    """The second guard, for a value that the first does not know: the page counts as launched."""
    (mount,) = [route for route in local.app.routes if isinstance(route, Mount)]
    page = mount.app.get_blocks()
    token = LocalContext.blocks.set(page)
    try:
        with pytest.raises(InvalidPathError, match="not uploaded by a user"):
            move_files_to_cache(
                references(str(planted))[0], next(iter(page.blocks.values())), check_in_upload_folder=True
            )
    finally:
        LocalContext.blocks.reset(token)


def test_no_address_of_a_file_is_served(client: Client, planted: Path, copies: Path) -> None:
    copy = copies / "planted.txt"
    copy.write_text(WORDS)
    for path in (copy, planted, POCKET_MODEL / "config.json", Path("app.py").resolve()):
        for address in (
            f"gradio_api/file={path}",
            f"gradio_api/file/{path}",
            f"file={path}",
            f"gradio_api//file={path}",
        ):
            answer = client.http.get(f"/{address}")
            assert answer.status_code in (403, 404), (address, answer.status_code)
            assert WORDS not in answer.text
    copy.unlink()


def test_without_a_login_no_event_and_no_file_is_reached(shared: Running, planted: Path) -> None:
    nobody = shared.as_user(None)
    body = {"data": references(str(planted))[:1], "fn_index": 1, "session_hash": "x", "event_data": None}
    for path in ("queue/join", "run/predict"):
        assert nobody.post(f"/gradio_api/{path}", json=body).status_code == 401
    assert nobody.get(f"/gradio_api/file={planted}").status_code == 401
    assert nobody.post("/gradio_api/upload", files={"files": ("a.zip", b"x")}).status_code == 401


def test_only_an_owner_uploads_and_only_an_upload_is_read(client: Client, planted: Path, copies: Path) -> None:
    (event,) = [event for event in client.events if client.takes(event, "uploadbutton")]
    sent = client.http.post("/gradio_api/upload", files={"files": ("adapter.zip", b"no zip")})
    if client.role == "cora":
        assert sent.status_code == 403
        mine = copies / "adapter.zip"
        mine.write_bytes(b"no zip")
        assert "cannot be read" in client.fire(event, [{"path": str(mine), "meta": {"_type": "gradio.FileData"}}], None)
        return
    assert sent.status_code == 200
    upload = {"path": sent.json()[0], "orig_name": "adapter.zip", "meta": {"_type": "gradio.FileData"}, "size": 6}
    assert "not a zip file of an adapter folder" in client.fire(event, [upload], None)
    (copies / "link.zip").symlink_to(planted)
    for path in (str(planted), str(copies / ".." / planted.parent.name / planted.name), str(copies / "link.zip"), str(copies),
                 "http://127.0.0.1:9/x.zip", "\0", "", 7, None):  # fmt: skip
        assert "cannot be read" in client.fire(event, [{**upload, "path": path}], None), path
    (copies / "link.zip").unlink()
    assert "cannot be read" in client.fire(event, [[upload]], None), "nested"
    assert "cannot be read" in client.fire(event, [upload], upload), "and beside the input"


def test_a_version_is_downloaded_by_an_owner_and_by_no_guest(local: Running, shared: Running) -> None:
    for name, status in ((None, 401), ("cora", 403), ("anna", 404)):
        assert shared.as_user(name).get("/v1/adapters/1/zip").status_code == status
    reply = ask(local.app_services, "What is an owl?")
    local.app_services.feedback.edit(reply.id, "It is a lamp.")
    assert local.app_services.learning.run_pending() == 1
    answer = local.as_user(None).get("/v1/adapters/1/zip")
    assert answer.status_code == 200 and "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert "v1/adapter_model.safetensors" in packed.namelist()
