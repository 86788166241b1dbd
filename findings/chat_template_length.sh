#!/usr/bin/env bash
# transformers 5: len(tokenizer.apply_chat_template(messages)) is 2, however long the conversation.
#
# Expected: apply_chat_template gives the list of token ids, as it did for years, so that len() counts the prompt's tokens.
# Found: it gives a mapping with "input_ids" and "attention_mask", whose length is 2. A check such as
#   `len(ids) > context_tokens` is never true, and a slice such as ids[-512:] fails. return_dict=False gives the list.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq transformers==5.23.0 jinja2==3.1.6
HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import sys

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

print("transformers", transformers.__version__)
tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", chat_template=template)
messages = [{"role": "user", "content": "hello " * 1000}]
found = fast.apply_chat_template(messages)
ids = fast.apply_chat_template(messages, return_dict=False)
print(f"apply_chat_template(messages): {type(found).__name__} of length {len(found)}")
print(f"with return_dict=False: {type(ids).__name__} of length {len(ids)}")
as_found = len(found) == 2 and "input_ids" in found and len(ids) == 1000
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
