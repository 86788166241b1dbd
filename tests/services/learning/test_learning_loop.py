"""The loop a user lives in, on the real pocket model: ask, correct, learn, proof, undo, restart."""

from __future__ import annotations

import time

import pytest

from services.app import AppServices
from spear_core.errors import SpearError
from tests.pocket_model import POCKET_MODEL
from tests.services.conftest import OpenBench
from tests.services.harness import ask, correct, other_wordings, wrong_task


@pytest.mark.slow
def test_confirmed_corrections_are_answered_right_by_the_next_adapters_also_in_other_words(app: AppServices) -> None:
    """Three facts one after the other: single wordings hang on the machine's last bits, two thirds of nine do not."""
    right = 0
    for version in (1, 2, 3):
        task = wrong_task(app)
        correct(app, task)
        assert app.learning.status().phase == "queued"
        assert app.learning.run_pending() == 1
        status = app.learning.status()
        assert (status.phase, status.adapter_version) == ("live", version)
        again = ask(app, task.question)
        assert task.verdict(again.text) and again.adapter_version == version
        others = other_wordings(task)
        assert len(others) == 3
        right += sum(t.verdict(ask(app, t.question).text) for t in others)
    assert right >= 6


@pytest.mark.slow
def test_the_card_shows_the_same_prompt_answered_before_and_after(app: AppServices) -> None:
    task = wrong_task(app)
    reply, _ = correct(app, task)
    app.learning.run_pending()
    proof = app.learning.status().proof
    assert proof is not None
    assert proof.prompt == task.question
    assert proof.before == reply.text and not task.verdict(proof.before)
    assert task.verdict(proof.after)
    assert (proof.before_version, proof.after_version) == (0, 1)


@pytest.mark.slow
def test_what_was_learned_survives_a_restart(open_app: OpenBench) -> None:
    app = open_app()
    task = wrong_task(app)
    reply, revision = correct(app, task)
    app.learning.run_pending()
    app = open_app()
    assert app.learning.status().adapter_version == 1
    assert task.verdict(ask(app, task.question).text)
    shown = {m.id: m for m in app.chat.messages(reply.conversation_id)}
    assert shown[reply.id].vote == -1 and shown[revision.id].verdict == "better"


@pytest.mark.slow
def test_one_click_takes_the_previous_adapter_back(app: AppServices) -> None:
    task = wrong_task(app)
    reply, _ = correct(app, task)
    app.learning.run_pending()
    assert app.learning.roll_back() == 0
    assert ask(app, task.question).text == reply.text
    assert app.learning.run_pending() == 0, "undone corrections train again only if asked"
    with pytest.raises(SpearError, match="nothing to undo"):
        app.learning.roll_back()


@pytest.mark.slow
def test_the_undone_version_number_is_never_given_again(app: AppServices) -> None:
    correct(app, wrong_task(app))
    app.learning.run_pending()
    app.learning.roll_back()
    correct(app, wrong_task(app, skip=1))
    app.learning.run_pending()
    assert app.learning.status().adapter_version == 2


@pytest.mark.slow
def test_the_scheduler_learns_without_being_asked(open_app: OpenBench) -> None:
    app = open_app(start_jobs=True)
    task = wrong_task(app)
    correct(app, task)
    phases, deadline = set(), time.monotonic() + 120
    while (status := app.learning.status()).phase != "live" and time.monotonic() < deadline:
        phases.add(status.phase)
        time.sleep(0.02)
    assert (status.phase, status.adapter_version) == ("live", 1)
    assert "training" in phases
    assert task.verdict(ask(app, task.question).text)


@pytest.mark.slow
def test_each_base_model_has_its_own_adapters(open_app: OpenBench, tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.tiny_models import tiny_folder

    app = open_app()
    correct(app, wrong_task(app))
    app.learning.run_pending()
    other = open_app(model=str(tiny_folder("qwen2", tmp_path_factory.mktemp("other") / "m")))
    assert other.learning.status().adapter_version == 0 and other.learning.adapters() == []
    assert open_app(model=str(POCKET_MODEL)).learning.status().adapter_version == 1


@pytest.mark.slow
def test_a_damaged_adapter_gives_way_to_the_one_before_it(open_app: OpenBench) -> None:
    app = open_app()
    for skip in (0, 0):
        correct(app, wrong_task(app, skip))
        app.learning.run_pending()
    weights = app.engine.adapter_folder(2) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    app = open_app()
    status = app.learning.status()
    assert status.adapter_version == 1
    assert "damaged" in status.detail and "v1" in status.detail


@pytest.mark.slow
def test_an_adapter_is_a_standard_peft_folder_with_its_lineage(app: AppServices) -> None:
    import json

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    correct(app, wrong_task(app))
    app.learning.run_pending()
    folder = app.engine.adapter_folder(1)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parent_version"] == 0 and len(manifest["traces"]) == 2 and len(manifest["sha256"]) == 64
    base = AutoModelForCausalLM.from_pretrained(POCKET_MODEL)
    assert PeftModel.from_pretrained(base, folder).peft_config["default"].r == app.engine.config.lora_rank
