#!/usr/bin/env bash
# PEFT: an adapter with the output layer among its targets is saved with the whole untrained output layer.
#
# Expected: save_pretrained of a LoRA adapter writes A and B of each target, and nothing of the base model.
# Found: with "lm_head" among the targets the file also holds `lm_head.base_layer.weight`, the base model's own head, which no training
#   has touched: for a vocabulary of 150,000 and 2,048 hidden units 600 MB in bfloat16 beside an adapter of a few. Where
#   the head is tied to the embeddings the file holds them too. save_embedding_layers=False leaves it out, and the adapter loads the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6
HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import os
import sys
import warnings

import peft
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
torch.manual_seed(0)
print("peft", peft.__version__)
sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=5000)


def saved(**how):
    model = get_peft_model(LlamaForCausalLM(LlamaConfig(**sizes)), LoraConfig(r=2, target_modules=["q_proj", "lm_head"]))
    model.save_pretrained("adapter", **how)
    file = "adapter/adapter_model.safetensors"
    extra = {name: tuple(t.shape) for name, t in load_file(file).items() if "lora_" not in name}
    return extra, os.path.getsize(file)


plain, lean = saved(), saved(save_embedding_layers=False)
print(f"save_pretrained(folder): {plain[1]:,} bytes, besides A and B: {plain[0]}")
print(f"with save_embedding_layers=False: {lean[1]:,} bytes, besides A and B: {lean[0]}")
as_found = any(name.endswith("lm_head.base_layer.weight") for name in plain[0]) and not lean[0] and plain[1] > 5 * lean[1]
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
