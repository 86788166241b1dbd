"""Words of a model as HTML: what is drawn, and that nothing in it can run or fetch."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ui.chat.markdown import render


class Reader(HTMLParser):
    """Collects what a browser would take for elements and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.words = ""

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(render(text))
    return reader


def read_text(text: str) -> str:
    return read(text).words


DANGEROUS = [
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "![picture](http://elsewhere.invalid/x.png)",
    "[link](javascript:alert(1))",
    "[link](data:text/html,x)",
    "$\\text{<img src=x onerror=alert(1)>}$",
    "$$\\href{javascript:alert(1)}{x}$$",
    "\\(\\text{&lt;script&gt;}\\)",
    '```x"onload=alert(1)\n<b>\n```',
]
HARMLESS_TAGS = {
    *(
        "p",
        "br",
        "strong",
        "em",
        "s",
        "code",
        "pre",
        "span",
        "div",
        "button",
        "a",
        "ul",
        "ol",
        "li",
        "blockquote",
        "hr",
    ),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}


def assert_harmless(text: str) -> None:
    found = read(text)
    assert all(tag in HARMLESS_TAGS or tag == "math" or tag.startswith("m") for tag in found.tags), found.tags
    for name, value in found.attributes:
        assert not name.startswith("on") and name not in ("src", "srcset", "style"), (name, value)
        if name == "href":
            assert value.startswith(("http://", "https://", "mailto:"))


@pytest.mark.parametrize("text", DANGEROUS)
def test_nothing_that_was_said_can_run_or_fetch(text: str) -> None:
    assert_harmless(text)


@given(
    st.lists(
        st.sampled_from([*DANGEROUS, "$", "$$", "`", "```", "\n", "<", "\\(", "\\)", "**", "|", "\\frac{a}"]),
        max_size=8,
    )
)
@settings(max_examples=150, deadline=None)
def test_no_mixture_of_them_can_either(parts: list[str]) -> None:
    assert_harmless("".join(parts))


def test_emphasis_lists_tables_and_code_are_drawn() -> None:
    assert "<strong>bold</strong>" in render("**bold**")
    assert {"ul", "li"} <= read("- one\n- two").tags
    assert {"table", "th", "td"} <= read("|a|b|\n|-|-|\n|1|2|").tags
    assert '<span class="nb">print</span>' in render("```python\nprint(1)\n```")


FORMULAS = [
    "$x^2$",
    "\\(x^2\\)",
    "\\( x^2 \\)",
    "so $$x^2$$",
    "$$\nx^2\n$$",
    "\\[x^2\\]",
    "\\[ x^2 \\]",
    "\\[\nx^2\n\\]",
    "so \\[x^2\\] in a sentence",
    "so \\[ x^2 \\].",
    "Then:\n\\[\nx^2\n\\]\nand on",
    "1. Then:\n   \\[\n   x^2\n   \\]\n2. on",
    "> \\[\n> x^2\n> \\]",
    "the $x^2$-axis",
    "the $x^2$th of them",
    "it costs $5, and $x^2$ is a formula",
    "($x^2$)",
    "**$x^2$**",
    "$1 + x^2$",
]
NO_FORMULAS = [
    "it costs $5 and $6",
    "$20-$30",
    "US$5 to US$6",
    "$1,000/$2,000",
    "$HOME/$USER",
    "$HOME:$PATH and ${A}/${B}",
    "echo $HOME and $USER",
    "between $5 and 10$",
    "5$ or 10$",
    "$5",
    "$ x $",
    "\\$5 and \\$6",
    "$",
    "$$",
    "\\(\\)",
    "\\[ \\]",
    "\\\\(x^2\\\\)",
]
CODE = ["`{}`", "``{}``", "```\n{}\n```", "~~~\n{}\n~~~", "````\n```\n{}\n````", "    {}", "- a\n\n      {}"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_become_mathml(text: str) -> None:
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in render(text)
    assert "$" not in re.sub(r"\$5", "", read_text(text)) and "\\" not in read_text(text)


@pytest.mark.parametrize("text", NO_FORMULAS)
def test_prices_and_paths_are_no_formulas(text: str) -> None:
    assert "<math" not in render(text)


@pytest.mark.parametrize("text", NO_FORMULAS[:8])
def test_prices_and_paths_stay_as_typed(text: str) -> None:
    assert read_text(text).strip() == text


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize("formula", ["$x^2$", "\\(x^2\\)", "\\[x^2\\]", "$$x^2$$"])
def test_code_of_any_kind_is_not_touched(code: str, formula: str) -> None:
    assert "<math" not in render(code.format(formula))
    assert formula in read_text(code.format(formula))


def test_a_dollar_before_code_does_not_reach_into_it() -> None:
    assert "<math" not in render("it costs $5, see `$x$`")


@pytest.mark.parametrize(
    ("text", "bold"),
    [
        ("**「重要」**です", "「重要」"),
        ("これは**「重要」**です。", "「重要」"),
        ("这是**“重点”**内容", "“重点”"),
        ("**注意：**请看", "注意："),
        ("이것은**(중요)**입니다", "(중요)"),
        ("**bold**", "bold"),
        ("a**b**c", "b"),
    ],
)
def test_bold_beside_cjk_punctuation_is_bold(text: str, bold: str) -> None:
    assert f"<strong>{bold}</strong>" in render(text)


@pytest.mark.parametrize("text", ['a**"b"**c', "a ** b ** c", "snake_case_名前_here"])
def test_other_scripts_keep_the_rule_of_commonmark(text: str) -> None:
    assert not {"strong", "em"} & read(text).tags


def test_a_formula_that_cannot_be_read_is_shown_as_typed() -> None:
    assert "\\frac{" in render("$\\frac{$")


@pytest.mark.parametrize("flood", ["$x" * 2000, "[" * 5000, "![" * 3000])
def test_a_flood_of_marks_is_shown_as_typed(flood: str) -> None:
    assert render(flood) == f"<p>{flood}</p>"
