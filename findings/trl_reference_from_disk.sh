#!/usr/bin/env bash
# TRL: DPO and KTO after another training in the same process hold the model to the file on disk, not to what it was.
#
# Expected: with ref_model=None the reference is the model as it was handed to the trainer. The documentation says "the
#   model state before DPO training starts". So in the first step policy and reference agree, and all rewards are 0.
# Found: the reference is loaded again from the path that the model's config remembers. A model that was fine-tuned
#   since it was loaded (SFTTrainer, then DPOTrainer with the same object) is compared with the model before the
#   fine-tuning: rewards start high, DPO's loss starts below log 2, and it is the older model that the policy is held
#   to. Nothing is said. Saved and loaded again before DPO, given a ref_model, or with precompute_ref_log_probs=True it
#   is as expected.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 transformers==5.23.0 trl==1.16.0 datasets==5.2.0 accelerate==1.15.0 numpy==2.4.6
HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import logging
import sys
import warnings

import datasets
import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
datasets.disable_progress_bars()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
torch.manual_seed(0)
print("trl", trl.__version__, "transformers", transformers.__version__)
letters = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
plain = Tokenizer(models.BPE(letters, []))
plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
plain.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|end|>", pad_token="<|pad|>")
sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=len(tokenizer))
LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained("base")
pairs = Dataset.from_list([{"prompt": f"Q{i}: ", "chosen": f"good {i}", "rejected": f"poor {i}"} for i in range(8)])
answers = pairs.rename_column("chosen", "completion").remove_columns("rejected")
shared = dict(per_device_train_batch_size=8, use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True)
shared |= dict(report_to=[], save_strategy="no", output_dir="out")


def trained(trainer):
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return trainer


def fine_tuned():
    """The model after some supervised training, in this process."""
    args = SFTConfig(num_train_epochs=10, learning_rate=1e-2, logging_strategy="no", **shared)
    model = AutoModelForCausalLM.from_pretrained("base")
    return trained(SFTTrainer(model=model, args=args, train_dataset=answers, processing_class=tokenizer)).model


def first_step(model, trainer, config, **how):
    """Loss and reward of the good answers in the first step, before anything was learned."""
    args = config(max_steps=1, learning_rate=1e-6, logging_steps=1, **shared, **how)
    done = trained(trainer(model=model, args=args, train_dataset=pairs, processing_class=tokenizer))
    return done.state.log_history[0]["loss"], done.state.log_history[0]["rewards/chosen"]


fine_tuned().save_pretrained("tuned")
found = {}
for trainer, config in ((DPOTrainer, DPOConfig), (KTOTrainer, KTOConfig)):
    cases = {
        "as loaded": first_step(AutoModelForCausalLM.from_pretrained("base"), trainer, config),
        "fine-tuned before": first_step(fine_tuned(), trainer, config),
        "fine-tuned, saved, loaded": first_step(AutoModelForCausalLM.from_pretrained("tuned"), trainer, config),
        "fine-tuned before, precompute_ref_log_probs": first_step(
            fine_tuned(), trainer, config, precompute_ref_log_probs=True
        ),
    }
    for case, (loss, reward) in cases.items():
        print(f"{trainer.__name__}, {case}: first loss {loss:.3f}, reward of the good answers {reward:.2f}")
    found[trainer] = [reward for _, reward in cases.values()]
as_found = all(
    loaded == 0 and again > 0.5 and saved == 0 and abs(before) < 0.01 for loaded, again, saved, before in found.values()
)
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
