#!/usr/bin/env bash
# transformers: the mask of the assistant's tokens is empty where a long conversation is cut at its beginning.
#
# Expected: apply_chat_template(return_assistant_tokens_mask=True) marks the tokens that the assistant wrote, so that only
#   they are trained. With truncation_side="left" the latest turns stay, and of those the assistant's are marked.
# Found: the spans are gone through from the first; at the first one whose beginning was cut off the search ends. One early
#   answer out of reach is enough for a mask of zeros, though the last answer is there whole: a row without a
#   single trained token, and no warning. Cut at the other end, what is left is marked.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6 numpy==2.4.6
HF_HUB_OFFLINE=1 env/bin/python - <<'PY' 2>&1
import sys

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

print("transformers", transformers.__version__)
letters = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
plain = Tokenizer(models.BPE(letters, []))
plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
plain.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|end|>")
tokenizer.chat_template = (
    "{% for message in messages %}{{ message.role }}: {% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }}<|end|>{% endgeneration %}"
    "{% else %}{{ message.content }}<|end|>{% endif %}{% endfor %}"
)
turns = [("user", "one?"), ("assistant", "first"), ("user", "two?"), ("assistant", "second"), ("user", "three?"), ("assistant", "third")]
messages = [{"role": role, "content": text} for role, text in turns]


def marked(side, length):
    """The text that a row of at most `length` tokens holds, and what of it is marked as the assistant's."""
    tokenizer.truncation_side = side
    row = tokenizer.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True, truncation=True, max_length=length
    )
    ids, mask = row["input_ids"], row["assistant_masks"]
    return tokenizer.decode(ids), tokenizer.decode([token for token, own in zip(ids, mask) if own])


whole = marked("left", 1000)
print("whole:", whole)
cut = {(side, length): marked(side, length) for side in ("right", "left") for length in (75, 60)}
for (side, length), (text, own) in cut.items():
    print(f"{length} tokens, cut at the {side}: marked {own!r} of {text!r}")
left = cut["left", 60]
as_found = "third<|end|>" in left[0] and left[1] == "" and cut["right", 60][1] and whole[1].endswith("third<|end|>")
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
