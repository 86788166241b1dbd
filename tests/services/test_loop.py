"""The loop a user lives in, on the real pocket model: ask, correct, learn, proof, undo, restart."""

from __future__ import annotations

import time

import pytest

from services.workbench import Workbench
from spear_core.errors import SpearError
from tests.services.bench_desk import ask, correct, other_wordings, wrong_task
from tests.services.conftest import POCKET_MODEL, OpenBench


def test_a_confirmed_correction_is_answered_right_by_the_next_adapter_also_in_other_words(bench: Workbench) -> None:
    task = wrong_task(bench)
    correct(bench, task)
    assert bench.learning.status().phase == "queued"
    assert bench.learning.run_pending() == 1
    status = bench.learning.status()
    assert (status.phase, status.adapter_version) == ("live", 1)
    again = ask(bench, task.question)
    assert task.verdict(again.text) and again.adapter_version == 1
    others = other_wordings(task)
    assert sum(t.verdict(ask(bench, t.question).text) for t in others) >= 2


def test_the_card_shows_the_same_prompt_answered_before_and_after(bench: Workbench) -> None:
    task = wrong_task(bench)
    reply, _ = correct(bench, task)
    bench.learning.run_pending()
    proof = bench.learning.status().proof
    assert proof is not None
    assert proof.prompt == task.question
    assert proof.before == reply.text and not task.verdict(proof.before)
    assert task.verdict(proof.after)
    assert (proof.before_version, proof.after_version) == (0, 1)


def test_what_was_learned_survives_a_restart(open_bench: OpenBench) -> None:
    bench = open_bench()
    task = wrong_task(bench)
    reply, revision = correct(bench, task)
    bench.learning.run_pending()
    bench = open_bench()
    assert bench.learning.status().adapter_version == 1
    assert task.verdict(ask(bench, task.question).text)
    shown = {m.id: m for m in bench.chat.messages(reply.conversation_id)}
    assert shown[reply.id].vote == -1 and shown[revision.id].verdict == "better"


def test_one_click_takes_the_previous_adapter_back(bench: Workbench) -> None:
    task = wrong_task(bench)
    reply, _ = correct(bench, task)
    bench.learning.run_pending()
    assert bench.learning.roll_back() == 0
    assert ask(bench, task.question).text == reply.text
    assert bench.learning.run_pending() == 0, "undone corrections train again only if asked"
    with pytest.raises(SpearError, match="no adapter to undo"):
        bench.learning.roll_back()


def test_the_undone_version_number_is_never_given_again(bench: Workbench) -> None:
    correct(bench, wrong_task(bench))
    bench.learning.run_pending()
    bench.learning.roll_back()
    correct(bench, wrong_task(bench, skip=1))
    bench.learning.run_pending()
    assert bench.learning.status().adapter_version == 2


def test_the_scheduler_learns_without_being_asked(open_bench: OpenBench) -> None:
    bench = open_bench(start_jobs=True)
    task = wrong_task(bench)
    correct(bench, task)
    phases, deadline = set(), time.monotonic() + 120
    while (status := bench.learning.status()).phase != "live" and time.monotonic() < deadline:
        phases.add(status.phase)
        time.sleep(0.02)
    assert (status.phase, status.adapter_version) == ("live", 1)
    assert "training" in phases
    assert task.verdict(ask(bench, task.question).text)


def test_each_base_model_has_its_own_adapters(open_bench: OpenBench, tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.tiny_models import tiny_folder

    bench = open_bench()
    correct(bench, wrong_task(bench))
    bench.learning.run_pending()
    other = open_bench(model=str(tiny_folder("qwen2", tmp_path_factory.mktemp("other") / "m")))
    assert other.learning.status().adapter_version == 0 and other.learning.adapters() == []
    assert open_bench(model=str(POCKET_MODEL)).learning.status().adapter_version == 1


def test_a_damaged_adapter_gives_way_to_the_one_before_it(open_bench: OpenBench) -> None:
    bench = open_bench()
    for skip in (0, 0):
        correct(bench, wrong_task(bench, skip))
        bench.learning.run_pending()
    weights = bench.engine.adapter_folder(2) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    bench = open_bench()
    status = bench.learning.status()
    assert status.adapter_version == 1
    assert "damaged" in status.detail and "v1" in status.detail


def test_an_adapter_is_a_standard_peft_folder_with_its_lineage(bench: Workbench) -> None:
    import json

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    correct(bench, wrong_task(bench))
    bench.learning.run_pending()
    folder = bench.engine.adapter_folder(1)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parent_version"] == 0 and len(manifest["traces"]) == 2 and len(manifest["sha256"]) == 64
    base = AutoModelForCausalLM.from_pretrained(POCKET_MODEL)
    assert PeftModel.from_pretrained(base, folder).peft_config["default"].r == bench.engine.config.lora_rank
