#!/usr/bin/env bash
# torch: the Muon optimizer of a float32 model computes in bfloat16, whatever its weights are.
#
# Expected: a step of torch.optim.Muon on float32 weights is float32 arithmetic; on a CPU it takes about as long as its fifteen
#   matrix products do in float32.
# Found: the gradient is cast to bfloat16 before the Newton-Schulz iteration and the step is rounded to it, also where the
#   caller avoided bfloat16 throughout; no argument changes that. On a CPU with AVX2 alone such a step takes some thirty times as long
#   as the same products in float32: of training a model of 5 million parameters there it is nearly all the time.
#
# The rounding is seen on every machine. Where the CPU has bfloat16 instructions the step is not slow, and only that is left out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 numpy==2.4.6
env/bin/python - <<'PY'
import sys
import time
from statistics import median

import torch

torch.manual_seed(0)
torch.set_num_threads(1)
print("torch", torch.__version__)
weight = torch.nn.Parameter(torch.zeros(512, 512))
optimizer = torch.optim.Muon([weight], lr=1.0, momentum=0.0, nesterov=False, weight_decay=0.0, ns_steps=5)
weight.grad = torch.randn(512, 512)
optimizer.step()
step = weight.detach()  # from zero, at a rate of 1 and for a square matrix: the update itself
is_rounded = bool((step == step.bfloat16().float()).all())
print(f"weights {weight.dtype}; every number of the step fits bfloat16: {is_rounded}")


def muon():
    optimizer.step()


def products():  # as many of the same size, in float32
    for _ in range(15):
        torch.mm(weight.grad, weight.grad)


took = {muon: [], products: []}
for _ in range(6):  # in turns; the first of each is left out
    for work, seconds in took.items():
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
ratio = median(took[muon][1:]) / median(took[products][1:])
print(f"a step takes {ratio:.1f} times as long as its matrix products in float32")
able = torch.cpu.get_capabilities()
is_plain = not (able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
as_found = is_rounded and (ratio > 3 or not is_plain)
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
