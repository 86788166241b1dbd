#!/usr/bin/env bash
# transformers: position_ids decide who sees whom, unless a mask of ones is given.
#
# Expected: without an attention mask every token sees all tokens before it; position_ids turn the rotary embedding only,
#   and a mask of ones, which hides nothing, changes nothing.
# Found: wherever two neighbouring positions do not differ by exactly 1, the part before is hidden from the part after, as
#   if two texts were packed in one row. With positions 0, 2, 4, ... (interpolated positions) every token sees itself
#   alone. With attention_mask=ones the same call gives other logits: there nothing is hidden.
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
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
print("transformers", transformers.__version__)
sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=64)
model = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
ids = torch.arange(3, 11).unsqueeze(0)
other = ids.clone()
other[0, 0] = 40  # another first token


@torch.no_grad()
def sees_the_first_token(positions, mask):
    """Does the last token's prediction change with the first token?"""
    first, second = (
        model(i, position_ids=torch.tensor([positions]), attention_mask=torch.ones_like(i) if mask else None).logits[0, -1]
        for i in (ids, other)
    )
    return not torch.equal(first, second)


found = {}
for name, positions in {"0 1 2 3 ...": range(8), "0 2 4 6 ...": range(0, 16, 2), "0 1 2 3 10 11 ...": [0, 1, 2, 3, 10, 11, 12, 13]}.items():
    found[name] = tuple(sees_the_first_token(list(positions), mask) for mask in (False, True))
    print(f"positions {name}: the last token sees the first: without a mask {found[name][0]}, with a mask of ones {found[name][1]}")
as_found = list(found.values()) == [(True, True), (False, True), (False, True)]
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
