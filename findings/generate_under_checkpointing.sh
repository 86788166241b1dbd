#!/usr/bin/env bash
# transformers: a model in training mode with gradient checkpointing generates each token from the last token alone.
#
# Expected: gradient checkpointing saves memory in the backward pass and changes no result. The model has no dropout, so
#   generate() gives in training mode what it gives in evaluation mode; at worst more slowly, without its cache, as
#   the warnings suggest ("Caching is incompatible with gradient checkpointing", "Setting `past_key_values=None`").
# Found: the layers drop the cache, but generate() keeps to its plan and feeds one token at a time. After the first new token
#   the model sees neither the question nor its own answer. Who samples answers within the training loop learns
#   from those. model.eval() or use_cache=False gives the right text.
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
model = LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=0.3, eos_token_id=None, pad_token_id=0))
prompt = torch.tensor([[3, 5, 7, 9, 11]])


def answer(prompt, **how):
    mask = torch.ones_like(prompt)
    return model.generate(prompt, attention_mask=mask, max_new_tokens=12, do_sample=False, **how)[0, prompt.shape[1] :].tolist()


def from_last_tokens_alone(prompt, count):
    """The first new token from the prompt, each later one from a prompt of the one token before it."""
    tokens = []
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(prompt, use_cache=False).logits[0, -1].argmax()))
            prompt = torch.tensor([tokens[-1:]])
    return tokens


model.eval()
right = answer(prompt)
model.train()
training = answer(prompt)
model.gradient_checkpointing_enable()
checkpointed, uncached = answer(prompt), answer(prompt, use_cache=False)
model.eval()
evaluated, alone = answer(prompt), from_last_tokens_alone(prompt, 12)
print("evaluation mode:                              ", right)
print("training mode:                                ", training)
print("training mode, checkpointing:                 ", checkpointed)
print("each token from the last alone:               ", alone)
print("training mode, checkpointing, use_cache=False:", uncached)
print("evaluation mode, checkpointing:               ", evaluated)
as_found = checkpointed == alone != right and right == training == uncached == evaluated
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
