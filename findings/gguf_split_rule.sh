#!/usr/bin/env bash
# transformers and GGUF: the tokenizer of a GGUF file may split text by another rule than the file says.
#
# Expected: tokenizer.ggml.pre names the rule by which text is split before byte-level BPE, and it is followed, or a name
#   that is not known is refused or at least warned of (llama.cpp refuses it).
# Found: transformers 5.23 follows some names ("qwen2", "llama-bpe", ...) and splits as GPT-2 does for all others, such as
#   "smollm" (SmolLM2's files), "starcoder" or "refact", whose rule takes digits one by one. "123" becomes one token that
#   the model has hardly ever seen in its training. Nothing is said about it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 transformers==5.23.0 gguf==0.19.0 numpy==2.4.6
HF_HUB_OFFLINE=1 env/bin/python - <<'PY' 2>&1
import sys

import transformers
from gguf import GGUFWriter, TokenType
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

print("transformers", transformers.__version__)
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
tokens = ["<|end|>", *letters, "12", "123"]


def pieces(rule):
    """How the tokenizer of a small GGUF file with this rule splits "123"."""
    writer = GGUFWriter(f"{rule}.gguf", "llama")
    writer.add_context_length(64)
    writer.add_block_count(0)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL, *[TokenType.NORMAL] * (len(tokens) - 1)])
    writer.add_token_merges(["1 2", "12 3"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return AutoTokenizer.from_pretrained(".", gguf_file=f"{rule}.gguf").tokenize("123")


found = {rule: pieces(rule) for rule in ("qwen2", "smollm", "starcoder", "no-such-rule")}
for rule, said in found.items():
    print(f'tokenizer.ggml.pre = "{rule}": "123" is split into {said}')
one_by_one = ["1", "2", "3"]
as_found = found["qwen2"] == one_by_one and found["smollm"] == found["starcoder"] == found["no-such-rule"] == ["123"]
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
