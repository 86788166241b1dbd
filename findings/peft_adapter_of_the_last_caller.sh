#!/usr/bin/env bash
# PEFT: after a generation with adapter_names that was broken off, later callers are answered by that caller's adapter.
#
# Expected: adapter_names holds for one call. A streamer that raises, which is how a server ends a reply that nobody reads
#   any more, ends that call; the next one uses the active adapter.
# Found: the names are put into the layers by hooks, which are removed at the end of a call only if it did not raise. A
#   plain call after that, with a batch of the same size, is answered by the adapter of the call that was broken off,
#   without a word, whatever set_adapter says; with a batch of another size it raises. A whole call with adapter_names
#   in between is right, and the old hooks stay: each later caller gets the adapter of the one who left. disable_adapter
#   is obeyed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6
HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import sys
import warnings

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
torch.manual_seed(0)
torch.set_num_threads(1)
print("peft", peft.__version__, "transformers", transformers.__version__)
sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=64)
lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
model = get_peft_model(LlamaForCausalLM(LlamaConfig(**sizes)), lora, adapter_name="ann")
model.add_adapter("ben", lora)
model.set_adapter("ben")
model.eval()
question = torch.arange(3, 20).unsqueeze(0)


class Gone(Exception):
    """The reader of a reply has left."""


class Stream:
    """A streamer whose reader leaves after two pieces."""

    pieces = 0

    def put(self, value):
        self.pieces += 1
        if self.pieces > 2:
            raise Gone

    def end(self):
        pass


def answer(**how):
    ids = model.generate(input_ids=question, max_new_tokens=6, do_sample=False, **how)
    return ids[0, question.shape[1] :].tolist()


def base():
    with model.disable_adapter():
        return answer()


before = {"active adapter (ben)": answer(), "no adapter": base(), "adapter_names=['ann']": answer(adapter_names=["ann"])}
try:
    answer(adapter_names=["ann"], streamer=Stream())
except Gone:
    pass
after = {"active adapter (ben)": answer(), "no adapter": base(), "adapter_names=['ben']": answer(adapter_names=["ben"])}
model.set_adapter("ben")
after["set_adapter('ben')"] = answer()
try:
    after["two questions"] = model.generate(input_ids=question.repeat(2, 1), max_new_tokens=6)
except ValueError as error:
    after["two questions"] = f"ValueError: {error}"
for moment, answers in {"before": before, "after a reply with adapter_names=['ann'] was broken off": after}.items():
    print(f"{moment}:")
    for name, ids in answers.items():
        print(f"   {name}: {ids}")
ann, ben, none = before["adapter_names=['ann']"], before["active adapter (ben)"], before["no adapter"]
as_found = (
    ann != ben
    and none not in (ann, ben)
    and after["active adapter (ben)"] == after["set_adapter('ben')"] == ann
    and after["no adapter"] == none
    and after["adapter_names=['ben']"] == ben
    and "ValueError" in after["two questions"]
)
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
