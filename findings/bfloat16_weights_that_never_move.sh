#!/usr/bin/env bash
# transformers and torch: full fine-tuning with from_pretrained and AdamW leaves most of a bfloat16 model's weights as
# they were.
#
# Expected: from_pretrained gives float32 weights to train, and AdamW, whose steps have about the size of the learning
#   rate, moves nearly every weight in its first ten steps.
# Found: transformers 5 loads in the file's own dtype, bfloat16 for today's models. A step of 1e-5 is smaller than half
#   the distance between two neighbouring bfloat16 numbers for every weight above about 0.005, and is rounded away: most weights do
#   not move at all, the norms (weights of 1) none. The loss still falls a little, and nothing is said. With
#   dtype=torch.float32 nearly all move.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 transformers==5.23.0 numpy==2.4.6
HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
torch.set_num_threads(1)
print("transformers", transformers.__version__, "torch", torch.__version__)
sizes = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=256)
LlamaForCausalLM(LlamaConfig(**sizes)).to(torch.bfloat16).save_pretrained("model")
ids = torch.arange(3, 67).unsqueeze(0)


def moved(**how):
    """Share of the weights in the layers that ten steps moved, and of the norms' weights."""
    model = AutoModelForCausalLM.from_pretrained("model", **how)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
    for _ in range(10):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    share = lambda names: sum(int((p.detach() != before[n]).sum()) for n, p in model.named_parameters() if n in names) / sum(
        before[n].numel() for n in names
    )
    layers = [n for n in before if n.endswith("proj.weight")]
    norms = [n for n in before if "norm" in n]
    return model.dtype, share(layers), share(norms)


plain, exact = moved(), moved(dtype=torch.float32)
for name, (dtype, layers, norms) in {"from_pretrained(folder)": plain, "with dtype=torch.float32": exact}.items():
    print(f"{name}: {dtype}; moved by ten steps of AdamW at 1e-5: {layers:.0%} of the layers' weights, {norms:.0%} of the norms'")
as_found = plain[0] == torch.bfloat16 and plain[1] < 0.5 and plain[2] == 0 and exact[1] > 0.95 and exact[2] > 0.95
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
