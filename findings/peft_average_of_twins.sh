#!/usr/bin/env bash
# PEFT: the "linear" average of an adapter with its own copy is twice the adapter.
#
# Expected: add_weighted_adapter([a, copy of a], [0.5, 0.5], combination_type="linear") changes the model as a does.
# Found: A and B are each multiplied by the square root of the weight and then summed, so the product BA holds the cross
#   terms too. For k adapters that agree, weights of 1/k give k times the change; for k adapters that have nothing in
#   common they give 1/k of each and noise. "magnitude_prune" does the same, "ties" leaves 1/k of the adapter;
#   "svd" and "cat", which work on the products, give the adapter back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6
HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import sys
import warnings

import peft
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
torch.manual_seed(0)
print("peft", peft.__version__)
sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=64)
lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], init_lora_weights=False)
model = get_peft_model(LlamaForCausalLM(LlamaConfig(**sizes)), lora)
names = ["default"]
for copy in ("second", "third"):
    model.add_adapter(copy, lora)
    set_peft_model_state_dict(model, get_peft_model_state_dict(model, adapter_name="default"), adapter_name=copy)
    names.append(copy)
layer = model.base_model.model.model.layers[0].self_attn.q_proj
own = layer.get_delta_weight("default")


def times(method, count, **more):
    name = f"{method}{count}"
    model.add_weighted_adapter(names[:count], [1 / count] * count, name, combination_type=method, **more)
    average = layer.get_delta_weight(name)
    return float((average * own).sum() / (own * own).sum())


found = {}
for method, more in {"linear": {}, "ties": {"density": 1.0}, "magnitude_prune": {"density": 1.0}, "svd": {}, "cat": {}}.items():
    found[method] = [times(method, count, **more) for count in (2, 3)]
    print(f"{method}: the average of 2 equal adapters is {found[method][0]:.2f} times the adapter, of 3 {found[method][1]:.2f}")
near = lambda values, wanted: all(abs(v - w) < 0.05 for v, w in zip(values, wanted))
as_found = near(found["linear"], (2, 3)) and near(found["svd"], (1, 1)) and near(found["cat"], (1, 1))
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
