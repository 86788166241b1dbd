#!/usr/bin/env bash
# PEFT: LoRA on a bfloat16 model computes and keeps its part in float32.
#
# Expected: in a bfloat16 model the inputs of lora_A are bfloat16, and what the backward pass keeps of them too.
# Found: the factors are float32 (autocast_adapter_dtype=True), so every adapted map makes a float32 copy of its whole
#   input, which the backward pass keeps beside the bfloat16 one; maps with the same input make one each. With LoRA on all linear maps the
#   activations take a multiple of what they take with autocast_adapter_dtype=False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6
HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import copy
import sys

import peft
import torch
from peft import LoraConfig, get_peft_model
from torch.autograd.graph import saved_tensors_hooks
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
torch.set_num_threads(1)
print("peft", peft.__version__)
sizes = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, vocab_size=512)
base = LlamaForCausalLM(LlamaConfig(**sizes)).to(torch.bfloat16)
ids = torch.randint(0, 512, (4, 128))


def kept(autocast):
    """Dtype of what goes into lora_A, and megabytes of activations that the layers keep for the backward pass."""
    model = get_peft_model(
        copy.deepcopy(base), LoraConfig(r=8, target_modules="all-linear"), autocast_adapter_dtype=autocast
    )
    inputs, held = [], {}
    lora = model.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"]
    lora.register_forward_hook(lambda module, given, out: inputs.append(given[0].dtype))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        states = model.base_model.model.model(ids).last_hidden_state
    states.float().sum().backward()
    return inputs[0], sum(size for place, size in held.items() if place not in weights) / 1e6


default, lean = kept(True), kept(False)
for name, (dtype, megabytes) in {"default": default, "autocast_adapter_dtype=False": lean}.items():
    print(f"{name}: lora_A gets {dtype}, {megabytes:.1f} MB of activations are kept")
print(f"ratio {default[1] / lean[1]:.2f}")
as_found = default[0] == torch.float32 and lean[0] == torch.bfloat16 and default[1] > 1.5 * lean[1]
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
