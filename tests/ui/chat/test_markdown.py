"""Words of a model as HTML: what is drawn, and that nothing in it can run or fetch."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ui.chat import markdown
from ui.chat.markdown import render


class Reader(HTMLParser):
    """Collects what a browser would take for elements and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(render(text))
    return reader


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


@pytest.mark.parametrize("text", ["$x^2$", "\\(x^2\\)", "so $$x^2$$", "\\[x^2\\]"])
def test_formulas_become_mathml(text: str) -> None:
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in render(text)


@pytest.mark.parametrize("text", ["it costs $5 and $6", "`$x^2$`", "```\n\\(x\\)\n```"])
def test_prices_and_code_stay_what_they_are(text: str) -> None:
    assert "<math" not in render(text)


def test_a_formula_that_cannot_be_read_is_shown_as_typed() -> None:
    assert "\\frac{" in render("$\\frac{$")


@given(st.lists(st.sampled_from(["\\(", "\\)", "\\[", "\\]", "x", "\n", "\\"]), max_size=12).map("".join))
def test_brackets_become_dollars_as_a_pattern_would_make_them(text: str) -> None:
    slow = re.sub(r"\\\[(.+?)\\\]", lambda m: f"$${m[1]}$$", text, flags=re.DOTALL)
    assert markdown._in_dollars(text, r"\[", r"\]", "$$") == slow


@pytest.mark.parametrize("flood", ["$x" * 2000, "[" * 5000, "![" * 3000])
def test_a_flood_of_marks_is_shown_as_typed(flood: str) -> None:
    assert render(flood) == f"<p>{flood}</p>"
