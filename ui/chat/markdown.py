"""Markdown -> HTML for the words of a model: code coloured, LaTeX as MathML, nothing that runs or is fetched.

HTML in the text stays text, pictures stay text (a picture would be a request to whatever host it names), links open
in another tab and may only lead to web pages and mail.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import Converter
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from ui.chat.cjk_emphasis import cjk_emphasis
from ui.chat.math_rules import MAX_MATH_CHARACTERS, math_rules

log = logging.getLogger(__name__)
CACHED_TEXTS = 4096
SHORT_CHARACTERS = 4000  # of longer texts only CACHED_LONG_TEXTS are kept, since they and their HTML take memory
CACHED_LONG_TEXTS = 100
_LINKED = re.compile(r"(?:https?|mailto):", re.IGNORECASE)
# Coloured is code of common languages: some of Pygments' lexers take time in the square of the length, or much more
COLOURED = frozenset(
    """bash c c++ cpp c# cs csharp css dart diff docker dockerfile go golang html ini java javascript js json jsx julia kotlin
    lua matlab php powershell ps1 py python r ruby rb rust rs scala scss sh shell sql swift tex latex toml ts tsx typescript
    xml yaml yml zsh""".split()  # noqa: SIM905
)
_LEXER_OF = {"java": "csharp"}  # Java's own reads a run of words again from each of them on
MOST_CODE, MOST_WITH_CODE = 5000, 20_000  # characters of a block that is coloured, and of the message that it is in
_NO_CODE = re.compile(r"\s{200}|[^\n]{500}")  # no code looks like this, and lexers look far ahead there
# A message with more of these is shown as typed: each costs a formula, or a look at all that follows it
MOST_OF = {"$": 1000, "\\(": 500, "\\[": 500, "[": 2000}
# What MathML may be made of: `href`, `style` and event attributes are not among it
_MATH_TAG = re.compile(r"math|m[a-z]+|semantics")
_MATH_ATTRIBUTES = {
    "xmlns", "display", "displaystyle", "mathvariant", "stretchy", "fence", "form", "accent", "linethickness", "width",
    "lspace", "rspace", "minsize", "maxsize", "columnalign", "rowlines", "columnlines", "movablelimits", "separator",
    "largeop", "symmetric", "scriptlevel", "columnspacing", "rowspacing", "frame", "notation", "height", "depth",
}  # fmt: skip


def _cleaned(element: Element) -> Element:
    """The same tree with real characters for entities, and without attributes that could do anything."""
    if not _MATH_TAG.fullmatch(element.tag):
        raise ValueError(f"{element.tag} is no element of MathML")
    for name in set(element.attrib) - _MATH_ATTRIBUTES:
        del element.attrib[name]
    # the converter writes entities into the text and unescapes the whole document, which would let HTML through
    element.text = html.unescape(element.text or "")
    element.tail = html.unescape(element.tail or "")
    for child in element:
        _cleaned(child)
    return element


def math(latex: str, options: Mapping[str, Any]) -> str:
    """MathML, which browsers draw by themselves; the formula as it was typed where it cannot be read."""
    display = "block" if options["display_mode"] else "inline"
    try:
        if len(latex) > MAX_MATH_CHARACTERS:
            raise ValueError("too long")
        element = Converter(display=display).convert_to_element(latex)
        return tostring(_cleaned(element), encoding="unicode")
    except Exception as error:  # on odd input the converter raises nearly anything, IndexError and its own errors
        log.debug("a formula is shown as typed: %s", error)
        return f"<code>{html.escape(latex)}</code>"


def _code(text: str, language: str, _attributes: str) -> str:
    is_coloured = language.lower() in COLOURED and len(text) <= MOST_CODE and not _NO_CODE.search(text)
    if not is_coloured:
        return _plain_code(text, language, "")
    name = language.lower()
    lexer = get_lexer_by_name(_LEXER_OF.get(name, name))
    return _framed(highlight(text, lexer, HtmlFormatter(nowrap=True)), language)


def _plain_code(text: str, language: str, _attributes: str) -> str:
    return _framed(html.escape(text), language)


def _framed(words: str, language: str) -> str:
    label = html.escape(language or "code")
    # markdown-it takes what begins with <pre as the whole block
    return (
        f'<pre class="code"><span class="code-head"><span>{label}</span>'
        f'<button type="button" data-do="copy-code">Copy</button></span><code tabindex="0">{words}</code></pre>'
    )


def _picture_as_text(_self: Any, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
    return html.escape(f"![{tokens[at].content}]({tokens[at].attrGet('src') or ''})")


def _link(self: Any, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
    token = tokens[at]
    if not _LINKED.match(str(token.attrGet("href") or "")):
        token.attrs.pop("href", None)
    token.attrSet("target", "_blank")
    token.attrSet("rel", "noopener noreferrer nofollow")
    return self.renderToken(tokens, at, options, env)


def _parser(code: Callable[[str, str, str], str]) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": code})
    parser.enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, allow_labels=False, renderer=math)
    parser.inline.ruler.disable("math_inline")  # prices are no formulas: math_rules.py
    parser.use(math_rules)
    parser.use(cjk_emphasis)
    parser.add_render_rule("image", _picture_as_text)
    parser.add_render_rule("link_open", _link)
    return parser


_PARSER, _PARSER_OF_LONG_TEXTS = _parser(_code), _parser(_plain_code)


def render(text: str) -> str:
    """HTML of one message. The same text is rendered once: a long conversation is drawn again with every vote."""
    return _render_short(text) if len(text) <= SHORT_CHARACTERS else _render_long(text)


def _render(text: str) -> str:
    if any(text.count(mark) > most for mark, most in MOST_OF.items()):
        return f"<p>{html.escape(text).replace(chr(10), '<br>')}</p>"
    return (_PARSER if len(text) <= MOST_WITH_CODE else _PARSER_OF_LONG_TEXTS).render(text)


_render_short = lru_cache(maxsize=CACHED_TEXTS)(_render)
_render_long = lru_cache(maxsize=CACHED_LONG_TEXTS)(_render)
