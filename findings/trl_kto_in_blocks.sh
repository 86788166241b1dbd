#!/usr/bin/env bash
# TRL: KTOTrainer trains a data set of pairs as a block of good answers, then a block of bad ones, and unlearns both.
#
# Expected: KTOTrainer takes pairs (prompt, chosen, rejected) and makes two rows of each. The rows are shuffled, as by every
#   other trainer, so that a batch holds good and bad answers.
# Found: the pairs are taken apart 1,000 at a time, all chosen answers before all rejected ones, and KTO's sampler keeps
#   the order, which its loss needs. So 500 pairs are 500 good answers in a row, then 500 bad ones. The bad block pulls
#   down what the good one raised: at the end good answers are less likely than before the training, and the two kinds
#   hardly differ. The same rows taken apart and shuffled by hand, unpair_preference_dataset(pairs).shuffle(), are
#   learned. The metric rewards/margins is missing from the log, as no batch has both kinds; nothing else is said. A
#   file sorted by its labels meets the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 transformers==5.23.0 trl==1.16.0 datasets==5.2.0 accelerate==1.15.0 numpy==2.4.6
HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 env/bin/python - <<'PY'
import copy
import logging
import sys
import warnings

import datasets
import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import KTOConfig, KTOTrainer, unpair_preference_dataset

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
datasets.disable_progress_bars()
torch.set_num_threads(1)
print("trl", trl.__version__, "transformers", transformers.__version__)
letters = {letter: place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
plain = Tokenizer(models.BPE(letters, []))
plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
plain.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|end|>", pad_token="<|pad|>")
torch.manual_seed(0)
sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=len(tokenizer))
base = LlamaForCausalLM(LlamaConfig(**sizes))
rows = [{"prompt": f"Q{i}: ", "chosen": "yes, " + "abc"[i % 3] * 4, "rejected": "no, " + "abc"[i % 3] * 4} for i in range(128)]
pairs = Dataset.from_list(rows)


class Watched(KTOTrainer):
    """Notes how many answers of each batch are good ones."""

    def compute_loss(self, model, inputs, *args, **how):
        if model.training:
            good_in_batches.append(int(inputs["label"].sum()))
        return super().compute_loss(model, inputs, *args, **how)


def learned(train):
    """Rewards of good and of bad answers after an epoch: log-probability gained since the start, times beta."""
    args = KTOConfig(
        output_dir="out", per_device_train_batch_size=8, num_train_epochs=1, learning_rate=1e-3, report_to=[],
        lr_scheduler_type="constant", logging_strategy="no", save_strategy="no", use_cpu=True, bf16=False,
        gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = Watched(
        model=copy.deepcopy(base), ref_model=copy.deepcopy(base), args=args, train_dataset=train, eval_dataset=pairs,
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    metrics = trainer.evaluate()
    return metrics["eval_rewards/chosen"], metrics["eval_rewards/rejected"]


found = {}
for name, train in {"pairs": pairs, "rows, shuffled": unpair_preference_dataset(pairs).shuffle(seed=0)}.items():
    good_in_batches = []
    found[name] = learned(train)
    print(f"{name}: good answers of 8 in each batch {good_in_batches}")
    print("   rewards after the epoch: good {:.2f}, bad {:.2f}".format(*found[name]))
    if name == "pairs":
        blocks = good_in_batches == [8] * 16 + [0] * 16
(good, bad), (shuffled_good, shuffled_bad) = found.values()
as_found = blocks and good < -0.2 and good - bad < 0.2 and shuffled_good > 0.5 and shuffled_bad < -0.5
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
