"""Emphasis beside Chinese, Japanese and Korean punctuation, as a rule of the Markdown parser.

CommonMark asks for a space between `**` and a letter where punctuation is inside the marks, and these scripts write no
spaces: `**「重要」**です` stays as typed. As in the draft of a rule by tats-u (markdown-cjk-friendly), a character of these
scripts beside the marks counts as punctuation where that permits emphasis, and as a letter where it would forbid it.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Delimiter

# Jamo; radicals to Yi with kana and ideographs; Hangul; compatibility forms; full and half width; the planes beyond
_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff01-\uffee\U00020000-\U0003ffff]"
)


def cjk_emphasis(parser: MarkdownIt) -> None:
    """Put the rule in the place of the parser's own one for `*` and `_`."""
    parser.inline.ruler.at("emphasis", _emphasis)


def _flanking(before: str, after: str) -> tuple[bool, bool]:
    """Whether marks between two characters may begin emphasis, and end it."""

    def is_punctuation(character: str) -> bool:
        return isMdAsciiPunct(ord(character)) or isPunctChar(character)

    def permits(character: str) -> bool:
        return bool(_CJK.match(character)) or is_punctuation(character) or isWhiteSpace(ord(character))

    def forbids(character: str) -> bool:
        return is_punctuation(character) and not _CJK.match(character)

    opens = not isWhiteSpace(ord(after)) and (not forbids(after) or permits(before))
    closes = not isWhiteSpace(ord(before)) and (not forbids(before) or permits(after))
    return opens, closes


def _emphasis(state: StateInline, silent: bool) -> bool:
    marker = state.src[state.pos]
    if silent or marker not in "*_":
        return False
    scanned = state.scanDelims(state.pos, marker == "*")
    opens, closes, after = scanned.can_open, scanned.can_close, state.pos + scanned.length
    around = (state.src[state.pos - 1 : state.pos] or " ", state.src[after : after + 1] or " ")
    if marker == "*" and any(map(_CJK.match, around)):
        opens, closes = _flanking(*around)
    for _ in range(scanned.length):
        state.push("text", "", 0).content = marker
        at = len(state.tokens) - 1
        state.delimiters.append(Delimiter(ord(marker), scanned.length, at, -1, opens, closes))
    state.pos = after
    return True
