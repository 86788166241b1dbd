"""What the cockpit needs beside the chat: the demonstration, adapters as zips, other base models, figures."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from services.app import AppServices
from services.demo import DemoService
from spear_core.errors import AdapterInvalid, ModelUnavailable, SpearError
from spear_core.models.adapters import WEIGHTS
from tests.services.conftest import OpenBench
from tests.services.harness import ask
from tests.tiny_models import tiny_folder

OWL = "What kind of thing is an owl?"
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "data" / "model"
DEMO_SECONDS = 240.0


def teach(app: AppServices, answer: str) -> str:
    reply = ask(app, OWL)
    app.feedback.edit(reply.id, answer)
    assert app.learning.run_pending() == 1
    return reply.text


@pytest.mark.slow
def test_the_demonstration_learns_on_scratch_and_touches_nothing_real(app: AppServices) -> None:
    demo = DemoService(app.engine, facts=2, meetings=1)
    rows = app.engine.store.first_replies()
    demo.speed = "fast"
    demo.start(seed=3)
    deadline = time.monotonic() + DEMO_SECONDS
    while demo.view().phase not in ("done", "failed") and time.monotonic() < deadline:
        time.sleep(0.1)
    view = demo.view()
    assert view.phase == "done", view.now
    assert len(view.first_try) == len(view.first_try_frozen) == 2
    taught = sum(turn.learned for turn in view.turns)
    assert view.kept == taught == len(view.exam) - 1
    assert all(turn.hint for turn in view.turns if not turn.right)
    assert app.engine.shared_models.serving.version == 0 and app.learning.adapters() == []
    assert app.engine.store.first_replies() == rows and app.chat.conversations() == []
    demo.reset()
    assert demo.view().phase == "idle"
    with pytest.raises(SpearError, match="speed"):
        demo.set_speed("ludicrous")


@pytest.mark.slow
def test_the_demonstration_plays_the_pocket_model_whatever_model_serves(open_app: OpenBench, tmp_path: Path) -> None:
    app = open_app(model=str(tiny_folder("qwen2", tmp_path / "other")))
    demo = DemoService(app.engine, facts=1, meetings=1)
    demo.speed = "fast"
    demo.start(seed=3)
    deadline = time.monotonic() + DEMO_SECONDS
    while demo.view().phase not in ("done", "failed") and time.monotonic() < deadline:
        time.sleep(0.1)
    view = demo.view()
    assert view.phase == "done", view.now
    assert view.turns[0].frozen.isprintable() and view.turns[0].frozen.endswith("."), "a sentence, not a random model's"
    assert app.model.name == "other" and app.learning.adapters() == []


@pytest.mark.slow
def test_an_adapter_leaves_as_a_zip_and_comes_back_through_the_gate(app: AppServices, tmp_path: Path) -> None:
    before = teach(app, "It is a lamp.")
    packed = app.adapter_files.download(1, tmp_path)
    written = app.adapter_files.download_gguf(1, tmp_path)
    assert written.name == "pocket-model-v1.gguf" and written.read_bytes()[:4] == b"GGUF"
    app.learning.roll_back()
    assert ask(app, OWL).text == before
    assert app.adapter_files.upload(packed) == 2
    assert ask(app, OWL).text == "It is a lamp."
    newest = app.learning.adapters()[0]
    assert (newest.status, newest.source) == ("live", "uploaded")
    progress = app.progress.view()
    assert [r.kept for r in progress.rounds] == [True] and progress.version == 2

    def changed(change: Callable[[str, bytes], tuple[str, bytes]]) -> Path:
        other = tmp_path / "other.zip"
        with zipfile.ZipFile(packed) as old, zipfile.ZipFile(other, "w") as new:
            for name in old.namelist():
                new.writestr(*change(name, old.read(name)))
        return other

    def expect_refused(path: Path, why: str) -> None:
        with pytest.raises(AdapterInvalid, match=why):
            app.adapter_files.upload(path)
        assert app.engine.shared_models.serving.version == 2

    (tmp_path / "no.zip").write_text("not a zip")
    expect_refused(tmp_path / "no.zip", "not a zip")
    expect_refused(changed(lambda n, c: (n.replace(WEIGHTS, "pytorch_model.bin"), c)), "must hold one")
    expect_refused(changed(lambda n, c: (n, c[:-9] if n.endswith(WEIGHTS) else c)), "damaged")
    expect_refused(changed(lambda n, c: (n, c.replace(b'"lora_alpha": ', b'"lora_alpha": -'))), "lora_alpha must be")
    expect_refused(changed(lambda n, c: (n, c.replace(b'"use_dora": false', b'"use_dora": true'))), "use_dora = True")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as large:
        large.writestr(WEIGHTS, b"\0" * 200_000_000)
    (tmp_path / "bomb.zip").write_bytes(bomb.getvalue())
    expect_refused(tmp_path / "bomb.zip", "larger than any adapter")


@pytest.mark.slow
def test_each_model_keeps_its_adapters_over_a_switch_and_back(app: AppServices) -> None:
    pocket = app.engine.loaded.name
    teach(app, "It is a lamp.")
    need = app.models.weigh(str(GOLDEN))
    assert 0 < need.needed_bytes < need.free_bytes
    with pytest.raises(ModelUnavailable, match="no folder"):
        app.models.switch("/no/such/folder")
    assert ask(app, OWL).text == "It is a lamp.", "what cannot be loaded changes nothing"
    assert app.models.switch(str(GOLDEN))
    assert app.model.name == "model" and app.learning.adapters() == []
    assert ask(app, OWL).complete
    assert app.models.switch(pocket)
    assert ask(app, OWL).text == "It is a lamp."
    known = {Path(m.name).name: (m.versions, m.is_current) for m in app.models.known()}
    assert known["pocket-model"] == (1, True) and known["model"] == (0, False)


@pytest.mark.slow
def test_a_switch_that_is_cancelled_while_it_waits_for_a_round_changes_nothing(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_model, loaded, known = app.learning.change_model, app.engine.loaded, app.models.known()

    def wait_for_a_round(change: Callable[[], None]) -> None:
        app.models.cancel()
        change_model(change)

    monkeypatch.setattr(app.learning, "change_model", wait_for_a_round)
    assert not app.models.switch(str(GOLDEN))
    assert app.engine.loaded is loaded and app.models.known() == known
    monkeypatch.undo()
    assert app.models.switch(str(GOLDEN))
