"""Pieces of text as token ids, each as it is encoded where it stands; what is words never becomes a control token.

The pieces of a prompt and of a reply are put together in prompts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from spear_core.models.chat_template import Layout, ids_of


def clean(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates, which no tokenizer accepts, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encode_emitted(tokenizer: PreTrainedTokenizerBase, layout: Layout, parts: Sequence[tuple[bool, str]]) -> list[int]:
    """A reply after the prompt, from (is it words?, text): only what is not words may become control tokens."""
    whole = "".join(part for _, part in parts)
    if not any(is_words and layout.control_text.search(part) for is_words, part in parts):
        ids = encode_after(tokenizer, layout.before_reply, whole)
        tags = [i for is_words, part in parts if not is_words for i in ids_of(tokenizer, part) if i in layout.controls]
        if [i for i in ids if i in layout.controls] == tags:
            return usable(layout, ids)
    ids, before = [], layout.before_reply
    for is_words, part in parts:
        encoded = encode_data(tokenizer, layout, part, before) if is_words else ids_of(tokenizer, part)
        ids += encoded if is_words else usable(layout, encoded)
        before = "" if is_words else part
    return ids


def usable(layout: Layout, ids: list[int]) -> list[int]:
    """Without ids that the model cannot embed, where the template itself writes one."""
    return [i for i in ids if i not in layout.unusable] if layout.unusable else ids


def encode_data(tokenizer: PreTrainedTokenizerBase, layout: Layout, text: str, before: str) -> list[int]:
    """A person's text, in which no control token may arise: cut inside each place where one's text begins.

    `before` is the template's text in front of it, which decides whether a SentencePiece tokenizer puts a space there.
    """
    cuts = [0, *(match.start() + 1 for match in layout.control_text.finditer(text)), len(text)]
    ids: list[int] = []
    for start, end in pairwise(cuts):
        ids += _encode_cut(tokenizer, layout, text[start:end], before if start == 0 else "\n")
    return ids


def _encode_cut(tokenizer: PreTrainedTokenizerBase, layout: Layout, text: str, before: str) -> list[int]:
    ids = encode_after(tokenizer, before, text)
    if layout.controls.isdisjoint(ids):
        return ids
    # a normaliser made a control token out of other characters: halve the text until it is broken
    if len(text) > 1:
        middle = len(text) // 2
        first = _encode_cut(tokenizer, layout, text[:middle], before)
        return first + _encode_cut(tokenizer, layout, text[middle:], "\n")
    return [i for i in ids if i not in layout.controls]  # a control token of one character: it cannot be said


def encode_after(tokenizer: PreTrainedTokenizerBase, before: str, text: str) -> list[int]:
    """Ids of `text` as they are when it follows `before`, without those of `before`.

    Encoded on its own, a SentencePiece tokenizer would put a space in front. Where the two would share a token, a
    neutral text goes first instead.
    """
    if not text:
        return []
    for anchor in (before, "\n", "."):
        head = ids_of(tokenizer, anchor)
        both = ids_of(tokenizer, anchor + text) if head else []
        if len(both) > len(head) and both[: len(head)] == head:
            return both[len(head) :]
    return ids_of(tokenizer, text)


def whole_characters(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Without the rest of a character whose first bytes were cut off."""
    for start in range(min(4, len(ids))):
        if not str(tokenizer.decode(ids[start : start + 8])).startswith("\ufffd"):
            return ids[start:]
    return ids
