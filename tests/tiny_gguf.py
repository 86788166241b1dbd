"""Tiny random models as GGUF files, for tests: one for each family that can be converted. Nothing is downloaded."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map, quants
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.tiny_models import tiny_tokenizer

FAMILIES = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3")
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 256}
HEADS, GROUPS, HEAD_SIZE = 4, 2, 8
MODEL_TYPES = {"gemma3": "gemma3_text"}


def tiny_gguf(
    family: str, file: Path, *, quantised: bool = True, pre: str = "smollm", tied: bool = True
) -> PreTrainedModel:
    """Write a random model of a family into `file`; returns the model, as it is before the file's rounding.

    Args:
        family: one of FAMILIES.
        quantised: matrices are stored as Q8_0, as llama.cpp does; else all numbers as float32.
        pre: `tokenizer.ggml.pre`, how text is split before byte-level BPE; not of the gemma families.
        tied: the output layer is the embedding.
    """
    tokenizer = tiny_tokenizer("qwen2")
    pieces = sentence_pieces() if family.startswith("gemma") else byte_level_pieces(tokenizer)
    model = _model(family, len(pieces["tokens"]), tied)
    writer = GGUFWriter(file, family)
    config = model.config
    writer.add_name(f"Tiny {family}")
    writer.add_context_length(SIZES["max_position_embeddings"])
    writer.add_block_count(SIZES["num_hidden_layers"])
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    if family == "llama":
        writer.add_rope_dimension_count(HEAD_SIZE)
    else:
        writer.add_key_length(HEAD_SIZE)
        writer.add_value_length(HEAD_SIZE)
    if family.startswith("gemma"):
        writer.add_tokenizer_model("llama")
        writer.add_token_scores(pieces["scores"])
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges(pieces["merges"])
    writer.add_token_list(pieces["tokens"])
    writer.add_token_types(pieces["types"])
    writer.add_eos_token_id(pieces["eos"])
    writer.add_pad_token_id(pieces["eos"])
    writer.add_bos_token_id(pieces["bos"])
    if tokenizer.chat_template and not family.startswith("gemma"):
        writer.add_chat_template(str(tokenizer.chat_template))
    _add_weights(writer, model, family, quantised, tied)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _model(family: str, vocabulary: int, tied: bool) -> PreTrainedModel:
    config = AutoConfig.for_model(
        MODEL_TYPES.get(family, family),
        vocab_size=vocabulary,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        head_dim=HEAD_SIZE,
        tie_word_embeddings=tied,
        **SIZES,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", ".bias")):  # all equal otherwise, and a mistake would not be seen
                torch.nn.init.normal_(parameter, mean=0.5, std=0.1)
    return model


def _add_weights(writer: GGUFWriter, model: PreTrainedModel, family: str, quantised: bool, tied: bool) -> None:
    architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == family)
    names = get_tensor_name_map(architecture, SIZES["num_hidden_layers"])
    for name, values in model.state_dict().items():
        stem, _, suffix = name.rpartition(".")
        if tied and stem == "lm_head":
            continue
        gguf_name = f"{names.get_name(stem)}.{suffix}"
        if family.startswith("gemma") and gguf_name.endswith("norm.weight"):
            values = values + 1
        if family == "llama" and (".attn_q." in gguf_name or ".attn_k." in gguf_name):
            heads = HEADS if ".attn_q." in gguf_name else GROUPS
            halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        numbers = values.numpy()
        if quantised and numbers.ndim == 2:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(gguf_name, quants.quantize(numbers, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name, numbers)


def byte_level_pieces(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    special = set(tokenizer.all_special_ids)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return {
        "tokens": tokens,
        "types": [TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(len(tokens))],
        "merges": [" ".join(pair) for pair in merges],
        "eos": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "bos": tokenizer.convert_tokens_to_ids("<|im_start|>"),
    }


def sentence_pieces() -> dict[str, Any]:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    letters = [f"<0x{byte:02X}>" for byte in range(256)] + ["\u2581", *string.ascii_letters, *string.digits, *".,?!"]
    words = ["\u2581t", "th", "\u2581th", "\u2581the", "he"]
    tokens = [*special, *letters, *words]
    types = [TokenType.CONTROL] * len(special) + [TokenType.BYTE] * 256
    types += [TokenType.NORMAL] * (len(tokens) - len(types))
    return {"tokens": tokens, "types": types, "scores": [-float(i) for i in range(len(tokens))], "eos": 1, "bos": 2}
