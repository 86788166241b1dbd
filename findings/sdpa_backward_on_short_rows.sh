#!/usr/bin/env bash
# torch and transformers: on a CPU the fused attention, which is the default, trains short rows slower than plain products.
#
# Expected: scaled_dot_product_attention is the quick way; its backward pass costs two to three times its forward pass, and
#   attn_implementation="eager" is slower in both.
# Found: over rows of 64 tokens in bfloat16 the fused backward pass takes about ten times as long as the forward pass, and the
#   eager attention, forward and backward together, a half to a third of the fused one. From about 256 tokens on the
#   difference is gone. Whoever trains a small adapter on short answers gains by asking for "eager".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 transformers==5.23.0 numpy==2.4.6
HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import sys
import time
from statistics import median

import torch
import transformers
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import eager_attention_forward

torch.manual_seed(0)
torch.set_num_threads(1)
print("transformers", transformers.__version__, "torch", torch.__version__)
module = nn.Module()
module.num_key_value_groups = 3
kinds = {"fused": sdpa_attention_forward, "eager": eager_attention_forward}


def timed(rows, length):
    """Median milliseconds (forward, backward) of both, in turns."""
    query, key, value = (torch.randn(rows, heads, length, 64).bfloat16().requires_grad_() for heads in (9, 3, 3))
    unseen = torch.ones(length, length).tril().logical_not()
    mask = torch.zeros(rows, 1, length, length, dtype=torch.bfloat16)
    mask = mask.masked_fill(unseen, torch.finfo(torch.bfloat16).min)
    took = {kind: [] for kind in kinds}
    for _ in range(25):
        for kind, attend in kinds.items():
            began = time.process_time()
            out = attend(module, query, key, value, mask, scaling=0.125, dropout=0.0)[0]
            middle = time.process_time()
            out.sum().backward()
            took[kind].append((middle - began, time.process_time() - middle))
    return {kind: [1000 * median(times) for times in zip(*of)] for kind, of in took.items()}


ratio = {}
for rows, length in ((8, 64), (4, 128), (2, 256), (1, 512)):
    found = timed(rows, length)
    (f, fb), (e, eb) = found["fused"], found["eager"]
    ratio[length] = (f + fb) / (e + eb)
    print(f"{length:4} tokens: fused {f:5.2f} + {fb:5.2f} ms, eager {e:5.2f} + {eb:5.2f} ms, fused / eager {ratio[length]:.2f}")
    if length == 64:
        backward = fb / f
print(f"fused backward / forward at 64 tokens: {backward:.1f}")
as_found = ratio[64] > 1.4 and backward > 4 and ratio[64] > ratio[512]
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
