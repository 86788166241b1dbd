#!/usr/bin/env bash
# transformers and torch: the dtype that a model is loaded in by default reads prompts many times slower on a CPU without
# bfloat16 instructions, such as many laptops and desktops have.
#
# Expected: `from_pretrained` without `dtype` takes the bfloat16 of the file. Half the memory has to be read, every number
#   converted: about as fast as float32, at worst half as fast.
# Found: on a CPU with AVX2 alone a prompt of 256 tokens takes five to seven times as long as with dtype=torch.float32, and a
#   training step ten times and more. A short prompt and its reply show nothing: one token at a time is somewhat quicker in
#   bfloat16, because less memory is read. float16 is no better.
#
# Where the CPU has bfloat16 instructions (AVX512-BF16, AMX) there is nothing to see, and the script says so.
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
from transformers import AutoModelForCausalLM, LlamaConfig

torch.manual_seed(0)
torch.set_num_threads(1)
print("transformers", transformers.__version__, "torch", torch.__version__)
able = torch.cpu.get_capabilities()
if able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"):
    print("this CPU has bfloat16 instructions: nothing to see")
    sys.exit()
config = LlamaConfig(
    vocab_size=4096,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=4,
    num_attention_heads=9,
    num_key_value_heads=3,
)
AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained("model")
models = {
    "by default": AutoModelForCausalLM.from_pretrained("model"),
    "in float32": AutoModelForCausalLM.from_pretrained("model", dtype=torch.float32),
}
prompt = torch.randint(0, config.vocab_size, (1, 256))


def read(model):
    with torch.no_grad():
        model(prompt)


def train(model):
    model(prompt, labels=prompt).loss.backward()


def reply(model):
    model.generate(prompt[:, :4], max_new_tokens=24, do_sample=False, pad_token_id=0)


ratio = {}
for work in (read, train, reply):
    took = {name: [] for name in models}
    for _ in range(4):  # in turns; the first of each is left out
        for name, model in models.items():
            began = time.process_time()
            work(model)
            took[name].append(time.process_time() - began)
    seconds = {name: median(times[1:]) for name, times in took.items()}
    ratio[work.__name__] = seconds["by default"] / seconds["in float32"]
    told = ", ".join(f"{name} ({models[name].dtype}) {s:.2f} s" for name, s in seconds.items())
    print(f"{work.__name__}: {told}, ratio {ratio[work.__name__]:.1f}")
as_found = models["by default"].dtype == torch.bfloat16 and ratio["read"] > 2.5 and ratio["reply"] < 2
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
