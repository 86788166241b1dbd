"""Tiny random models in ordinary Hugging Face folders, for tests: real architectures, templates and tokenizers.

Nothing here has learned anything, and nothing is downloaded. `tiny_folder("qwen2", tmp_path / "m")` takes well under a
second. Every kind is seeded: the same folder content each time.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

KINDS = ("qwen2", "llama3", "gemma2", "plain", "wordpiece")
THINKING_KINDS = ("qwen3", "begun")
BYTE_LEVEL_KINDS = ("qwen2", "llama3", "plain")  # those whose ids decode to the very same text
CONTEXT_TOKENS = 256

_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n'"
    " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\\n' + m['content'] | trim"
    " + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
# The logic of Qwen3's template: thoughts are kept behind the last question alone, a last answer without a thought gets an
# empty one, and a prompt with enable_thinking = false ends with an empty thought.
_QWEN3 = (
    "{%- set ns = namespace(last=-1) -%}"
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}"
    "{%- for m in messages -%}"
    "{%- if m.role != 'assistant' -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}"
    "{%- else -%}"
    "{%- set thought = '' -%}{%- set said = m.content -%}"
    "{%- if '</think>' in said -%}"
    "{%- set thought = said.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') -%}"
    "{%- set said = said.split('</think>')[-1].lstrip('\n') -%}"
    "{%- endif -%}"
    "{{- '<|im_start|>assistant\n' -}}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) -%}"
    "{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + said.lstrip('\n') -}}"
    "{%- else -%}{{- said -}}{%- endif -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}"
    "{%- endif -%}"
)
# As DeepSeek-R1 and Qwen3-Thinking do it: the prompt begins the thought, and old thoughts are dropped
_BEGUN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'].split('</think>')[-1].lstrip('\n')"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
_WORDPIECE = (
    "{{ '[CLS]' }}{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' [SEP] ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant : ' }}{% endif %}"
)
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_TOKENS,
}


def tiny_folder(kind: str, target: Path) -> Path:
    """Write a random model of about 30,000 weights with its tokenizer into `target`, and return `target`.

    Args:
        kind: "qwen2" (ChatML; its turn ends with <|im_end|>, EOS is another token), "llama3" (byte-level BPE, template
            trims), "gemma2" (Unigram with NFKC and Metaspace, a template that raises on a system message), "plain"
            (Llama, byte-level BPE, no chat template), "wordpiece" (Llama with a lower-casing WordPiece tokenizer), and
            two that think: "qwen3" (Qwen3's logic of thoughts) and "begun" (its prompt begins the thought).

    Raises:
        ValueError: for another kind.
    """
    if kind not in (*KINDS, *THINKING_KINDS):
        raise ValueError(f"unknown kind {kind}; use {', '.join((*KINDS, *THINKING_KINDS))}")
    tokenizer = _TOKENIZERS[kind]()
    _model(kind, tokenizer).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def tiny_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """The tokenizer of `tiny_folder`'s model of that kind."""
    return _TOKENIZERS[kind]()


def _model(kind: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config_class: type[PretrainedConfig]
    model_class: type[PreTrainedModel]
    config_class, model_class = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "gemma2": (Gemma2Config, Gemma2ForCausalLM),
    }.get(kind, (LlamaConfig, LlamaForCausalLM))
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {**_SIZES, "head_dim": 8, "sliding_window": 64} if kind == "gemma2" else _SIZES
    if kind == "qwen3":
        sizes = {**_SIZES, "head_dim": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return model_class(config_class(vocab_size=len(tokenizer), **sizes, **ids))


def _corpus() -> list[str]:
    subjects, places = (
        ("the otter", "a small boat", "Vera", "my neighbour", "Mr. Finch"),
        ("Oslo", "Lisbon", "the park"),
    )
    verbs = ("lives in", "walks to", "asked about", "likes", "never saw")
    lines = [f"{s} {v} {p}." for s, v, p in itertools.product(subjects, verbs, places)]
    lines += [f"What is {a} + {b}? It is {a + b}." for a in range(12) for b in range(12)]
    lines += [
        "system user assistant model User: Assistant:",
        "{hint} Answer: <b>|</b> [x] ; ! ? ' \" / \\ _ - # % & * = ~ ^ ` @ $",
    ]
    return [*lines, "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ"]


def _byte_level(special: list[str], template: str | None, **names: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return _wrap(tokenizer, special, template, names)


def _unigram() -> PreTrainedTokenizerFast:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(_corpus(), trainer)
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return _wrap(tokenizer, special, _GEMMA, names)


def _wordpiece() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(_corpus(), trainer)
    names = {
        "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[SEP]", "mask_token": "[MASK]", "pad_token": "[PAD]",
        "unk_token": "[UNK]",
    }  # fmt: skip
    return _wrap(tokenizer, special, _WORDPIECE, names)


def _wrap(
    tokenizer: Tokenizer, special: list[str], template: str | None, names: dict[str, str]
) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens=[token for token in special if token not in names.values()],
        chat_template=template,
        model_max_length=CONTEXT_TOKENS,
        padding_side="left",
        **names,
    )


def _thinking(template: str) -> PreTrainedTokenizerFast:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = _byte_level(special, template, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tags = [AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")]  # as Qwen3 has them
    tokenizer.add_tokens(tags)
    return tokenizer


_TOKENIZERS = {
    "qwen3": lambda: _thinking(_QWEN3),
    "begun": lambda: _thinking(_BEGUN),
    "qwen2": lambda: _byte_level(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], _CHATML, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    ),
    "llama3": lambda: _byte_level(
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>"],
        _LLAMA3, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", pad_token="<|pad|>",
    ),
    "gemma2": _unigram,
    "plain": lambda: _byte_level(["<s>", "</s>", "<pad>"], None, bos_token="<s>", eos_token="</s>", pad_token="<pad>"),
    "wordpiece": _wordpiece,
}  # fmt: skip
