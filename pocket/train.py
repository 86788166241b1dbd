"""Train the pocket model from nothing on generated text: `python -m pocket.train --out runs/pocket`.

Muon on the matrices and AdamW on the rest, bf16 autocast, loss on every reply the model should give and, in half of
the rows, on the questions too. Seeded by step, so that a run stopped at any checkpoint goes on as if never stopped.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pocket import checkpoint
from pocket.corpus import Corpus, Turn
from pocket.starter import write_settings
from pocket.tokenizer import BOS, END, PAD, ROLE_TOKEN, train_tokenizer

log = logging.getLogger("pocket.train")
CONTEXT_TOKENS = 256
IGNORE = -100
CONVERSATION_GOES_ON = 0.55  # chance that another exchange follows in the same conversation


def new_model(vocabulary_size: int, seed: int) -> LlamaForCausalLM:
    """A fresh Llama of about 5 million parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT_TOKENS,
            tie_word_embeddings=True,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=END,
        )
    )


class Rows:
    """Packs conversations into rows of ids and labels; caches the encoding of texts, which repeat a lot."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._encode = tokenizer.backend_tokenizer.encode
        self._cache: dict[str, list[int]] = {}

    def _ids(self, text: str) -> list[int]:
        ids = self._cache.get(text)
        if ids is None:
            if len(self._cache) > 200_000:
                self._cache.clear()
            ids = self._cache[text] = self._encode(text, add_special_tokens=False).ids
        return ids

    def _append(self, ids: list[int], labels: list[int], turn: Turn, all_tokens: bool) -> None:
        body = [*self._ids(turn.text), END]
        ids += [ROLE_TOKEN[turn.role], *body]
        taught = turn.learn and (turn.role == "assistant" or all_tokens)
        labels += [IGNORE, *(body if taught else [IGNORE] * len(body))]

    def batch(self, corpus: Corpus, rows: int) -> tuple[Tensor, Tensor]:
        """(rows, CONTEXT_TOKENS) ids and labels; labels are shifted by the loss, not here."""
        all_ids, all_labels = [], []
        for _ in range(rows):
            ids: list[int] = []
            labels: list[int] = []
            all_tokens = corpus.rng.random() < 0.5
            while len(ids) < CONTEXT_TOKENS:
                ids.append(BOS)
                labels.append(IGNORE)
                if corpus.rng.random() < 0.03:
                    self._append(ids, labels, Turn("system", "You are a helpful assistant."), all_tokens=False)
                while True:
                    for turn in corpus.exchange():
                        self._append(ids, labels, turn, all_tokens)
                    if len(ids) >= CONTEXT_TOKENS or corpus.rng.random() > CONVERSATION_GOES_ON:
                        break
            all_ids.append(ids[:CONTEXT_TOKENS])
            all_labels.append(labels[:CONTEXT_TOKENS])
        return torch.tensor(all_ids), torch.tensor(all_labels)


def loss_of(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled tokens; logits are made for those positions only."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # (B, T-1, H)
    targets = labels[:, 1:]  # (B, T-1)
    wanted = targets != IGNORE
    logits = model.lm_head(hidden[wanted])  # (N, V)
    return functional.cross_entropy(logits.float(), targets[wanted])


def optimizers(model: LlamaForCausalLM, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    return [
        torch.optim.Muon(matrices, lr=muon_lr, momentum=0.95, weight_decay=0.01, adjust_lr_fn="original"),
        torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def lr_scale(done: float, cool_down: float, warm_up: float = 0.01) -> float:
    """Trapezoid: a short warm-up, a plateau, and a linear cool-down to 2 %; `done` is the share of tokens seen."""
    if done < warm_up:
        return max(done / warm_up, 0.05)
    return max(0.02, min(1.0, (1.0 - done) / cool_down))


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write an ordinary Hugging Face folder in bf16, with the prompts it was trained to revise by."""
    folder.mkdir(parents=True, exist_ok=True)
    half = new_model(model.config.vocab_size, 0)
    half.load_state_dict(model.state_dict())
    half.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_settings(folder)


def train(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device(arguments.device)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    state_file = out / checkpoint.FILE
    if state_file.exists():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(out / "model")
    elif arguments.init_from:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.init_from)
    else:
        tokenizer = train_tokenizer(arguments.seed, CONTEXT_TOKENS)
    model = new_model(len(tokenizer), arguments.seed)
    model.to(device)  # type: ignore[arg-type]
    if arguments.init_from and not state_file.exists():
        model.load_state_dict(LlamaForCausalLM.from_pretrained(arguments.init_from, dtype=torch.float32).state_dict())
    steppers = optimizers(model, arguments.muon_lr, arguments.adam_lr)
    base_lrs = [s.param_groups[0]["lr"] for s in steppers]
    step = 0
    if state_file.exists():
        step = checkpoint.load(state_file, model, steppers)
        log.info("resumed at step %d", step)
    else:
        save_model(model, tokenizer, out / "model")
    rows = Rows(tokenizer)
    tokens_a_step = arguments.rows * CONTEXT_TOKENS
    steps = int(arguments.million_tokens * 1e6 / tokens_a_step)
    run = torch.compile(loss_of) if arguments.compile else loss_of
    started, first, running = time.monotonic(), step, 0.0
    model.train()
    while step < steps:
        ids, labels = (t.to(device) for t in rows.batch(Corpus(arguments.seed * 1_000_003 + step), arguments.rows))
        scale = lr_scale(step / steps, arguments.cool_down)
        for stepper, lr in zip(steppers, base_lrs, strict=True):
            for group in stepper.param_groups:
                group["lr"] = lr * scale
        with torch.autocast(device.type, torch.bfloat16):
            loss = run(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        step += 1
        running = loss.item() if running == 0.0 else 0.95 * running + 0.05 * loss.item()
        if step % 20 == 0:
            rate = (step - first) * tokens_a_step / (time.monotonic() - started)
            left = (steps - step) * tokens_a_step / rate / 60
            log.info(
                "step %d/%d  loss %.4f  lr x%.2f  %.0f tokens/s  %.0f min left", step, steps, running, scale, rate, left
            )
        if step % arguments.checkpoint_every == 0 or step == steps:
            checkpoint.save(state_file, model, steppers, step)
            save_model(model, tokenizer, out / "model")
    save_model(model, tokenizer, out / "model")
    log.info("the model is in %s", out / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", default="runs/pocket", help="folder for the checkpoint and the model (default %(default)s)"
    )
    parser.add_argument("--million-tokens", type=float, default=36.0)
    parser.add_argument("--rows", type=int, default=32, help=f"rows of {CONTEXT_TOKENS} tokens a step")
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument(
        "--cool-down", type=float, default=0.35, help="share of the run in which the rates fall to 2 %%"
    )
    parser.add_argument("--init-from", default="", metavar="FOLDER", help="start a further phase from a model folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (0: as many as torch chooses)")
    parser.add_argument("--checkpoint-every", type=int, default=200, metavar="STEPS")
    parser.add_argument("--compile", action="store_true", help="torch.compile the loss (needs a C++ compiler)")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
