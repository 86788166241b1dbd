r"""Where formulas stand in Markdown: `$x$`, `$$x$$`, `\(x\)` and `\[x\]`, as rules of the parser. No drawing.

Being rules of the parser, they see no code: fences, indented blocks and code spans were taken before. A dollar is also
money and the name of a shell variable, so `$x$` needs more than two dollars: see `_is_formula`. The blocks of `$$` are
those of mdit_py_plugins.dollarmath.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

MAX_MATH_CHARACTERS = 4000  # no closing mark is looked for beyond
_TEX = re.compile(r"[\\^_=+<>{}|]")
_WORDS = re.compile(r"\s[^\W\d_]{2,}(?!\w)")
_ORDINAL = re.compile(r"(?:th|st|nd|rd|s)\b")  # the $n$th of them
_BLOCK_ENDS = ("paragraph", "reference", "blockquote", "list")


def math_rules(parser: MarkdownIt) -> None:
    """Add the rules. Formulas become the tokens `math_inline` and `math_block`, their LaTeX the content."""
    parser.inline.ruler.before("escape", "math_brackets", _brackets)
    parser.inline.ruler.before("escape", "math_dollars", _dollars)
    parser.block.ruler.before("fence", "math_bracket_block", _bracket_block, {"alt": list(_BLOCK_ENDS)})


def _is_escaped(text: str, at: int) -> bool:
    """Whether an odd number of backslashes stands before a place."""
    before = at
    while before and text[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1


def _closing(text: str, mark: str, start: int, end: int) -> int:
    """Where the next unescaped `mark` is, or -1."""
    end = min(end, start + MAX_MATH_CHARACTERS)
    at = text.find(mark, start, end)
    while at >= 0 and _is_escaped(text, at):
        at = text.find(mark, at + 1, end)
    return at


def _push(state: StateInline, latex: str, *, display: bool) -> None:
    token = state.push("math_inline_double" if display else "math_inline", "math", 0)
    token.content = latex


def _brackets(state: StateInline, silent: bool) -> bool:
    r"""`\(x\)`, and `\[x\]` in the middle of a sentence."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in (r"\(", r"\["):
        return False
    begin = state.pos + 2
    end = _closing(state.src, r"\)" if opening == r"\(" else r"\]", begin, state.posMax)
    latex = state.src[begin:end].strip() if end >= 0 else ""
    if not latex:
        return False
    if not silent:
        _push(state, latex, display=opening == r"\[")
    state.pos = end + 2
    return True


def _dollars(state: StateInline, silent: bool) -> bool:
    """`$x$` and `$$x$$` in the middle of a sentence."""
    text, pos = state.src, state.pos
    if text[pos] != "$":
        return False
    mark = "$$" if text[pos + 1 : pos + 2] == "$" else "$"
    begin = pos + len(mark)
    end = _closing(text, mark, begin, state.posMax)
    latex = text[begin:end] if end >= 0 else ""
    if not latex.strip() or "`" in latex:
        return False
    before, after = text[pos - 1 : pos], text[end + len(mark) : end + len(mark) + 4]
    if mark == "$" and not _is_formula(latex, before, after):
        return False
    if not silent:
        _push(state, latex.strip(), display=mark == "$$")
    state.pos = end + len(mark)
    return True


def _is_formula(latex: str, before: str, after: str) -> bool:
    """Whether what stands between two single dollars is a formula, by what it is and the characters around it.

    Not: `$20-$30`, `US$5 to US$6`, `$1,000/$2,000` (a letter or digit outside a dollar), `$HOME and $USER` (a space
    inside one), `5$ or 10$`, `$5 and 10$` (words without a mark of TeX).
    """
    if latex[0].isspace() or latex[-1].isspace() or before.isalnum():
        return False
    if re.match(r"[\w{(]", after) and not (_ORDINAL.match(after) and latex[-1].isalnum()):
        return False
    return bool(_TEX.search(latex)) or not _WORDS.search(latex)


def _bracket_block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    r"""`\[`, a formula of any number of lines, and `\]` at the end of a line, with nothing before or after."""
    if state.is_code_block(start_line):
        return False
    begin = state.bMarks[start_line] + state.tShift[start_line]
    if state.src[begin : begin + 2] != r"\[":
        return False
    lines: list[str] = []
    for line in range(start_line, end_line):
        first = begin + 2 if line == start_line else state.bMarks[line] + state.tShift[line]
        if line > start_line and state.sCount[line] < state.blkIndent:
            return False  # the list or quote around it ended
        words = state.src[first : state.eMarks[line]]
        at = _closing(words, r"\]", 0, len(words))
        if at >= 0:
            if words[at + 2 :].strip():
                return False  # it is part of a sentence
            latex = "\n".join([*lines, words[:at]]).strip()
            if not latex:
                return False
            if not silent:
                state.line = line + 1
                token = state.push("math_block", "math", 0)
                token.block, token.content, token.map = True, latex, [start_line, state.line]
            return True
        lines.append(words)
        if sum(map(len, lines)) > MAX_MATH_CHARACTERS:
            return False
    return False
