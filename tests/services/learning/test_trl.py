"""A trainer of another project takes an export as it is: one step of TRL's DPO."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from feedback_store import Store
from feedback_store.transfer import Wanted
from services.data.feedback_files import export_lines
from services.data.feedback_import import import_lines
from tests.pocket_model import POCKET_MODEL

pytest.importorskip("trl", reason="TRL is missing; install it with: pip install -r requirements-dev.txt")


@pytest.mark.slow
def test_trls_dpo_trains_one_step_on_an_export(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    pairs = [("Norway", "Oslo", "Cairo"), ("Peru", "Lima", "Rome"), ("Kenya", "Nairobi", "Paris")]
    taught = [{"prompt": f"Capital of {land}?", "chosen": right, "rejected": wrong} for land, right, wrong in pairs]
    with Store(tmp_path / "store.sqlite3") as store:
        import_lines(store, "preference", map(json.dumps, taught), "base")
        (tmp_path / "preference.jsonl").write_text("".join(export_lines(store, "preference", Wanted())))
    dataset = load_dataset(
        "json", data_files=str(tmp_path / "preference.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    model = AutoModelForCausalLM.from_pretrained(POCKET_MODEL)
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=1,
            per_device_train_batch_size=3,
            learning_rate=1e-2,
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
        ),
        train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(POCKET_MODEL),
        peft_config=LoraConfig(r=4, target_modules="all-linear"),
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    moved = [
        name for name, p in trainer.model.named_parameters() if name in before and not torch.equal(p, before[name])
    ]
    assert trainer.state.global_step == 1 and moved and all("lora" in name for name in moved)
