"""What reads words of a person or a model takes time in proportion to their length, whatever the words are.

Each reader is timed on texts of growing length, in CPU time of this thread and within one run. Four times the text may
take ten times as long; reading it again from every character on takes sixteen times as long, or more.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from feedback_store import Trace
from server.api.openai_fields import ChatMessage, read_messages
from services.chat.client_histories import Said, read_history
from services.chat.export import exported
from services.data import trl_rows
from services.learning.contradictions import contradictions
from services.learning.style_preferences import GrantedPreference, change_of_form, standing_preferences
from services.peers.views import CircleView, MergeView, without_addresses
from services.views import ConversationView, LearnedView, MessageView
from spear_core.errors import SpearError
from spear_core.inference import answer_sentences as sentences
from spear_core.inference import question_sentences
from spear_core.inference.corrections import FollowUp, cue
from spear_core.inference.hints import read_hint
from spear_core.inference.letter_case import case_variants
from spear_core.inference.revision_requests import stated, without_introduction
from spear_core.inference.scope import asked_in
from spear_core.models.loading import load_model
from spear_core.models.prompts import encode_completion, encode_prompt
from spear_core.models.thoughts import is_thinking, pieces, split_thought, without_empty_thought
from spear_core.training.judge import normalised
from spear_core.training.losses import distinguishing_mask
from spear_core.training.neighbours import gives, question_key, telling_words
from spear_core.training.probes import is_degenerate
from spear_core.training.wordings import other_wordings, rephrased
from ui.chat.markdown import COLOURED, MOST_CODE, render
from ui.chat.messages import chat_value, quote
from ui.learning.lists import learned_html, matching

LENGTHS = (500, 2000, 8000)  # characters
QUADRATIC = 10.0  # times as long for four times the text
TOO_SHORT_SECONDS = 0.02  # to be told from chance

SHAPES = {
    "prose": "The owl flies over the old town, and nobody sees it. ",
    "one word": "a",
    "words": "a b ",
    "digits": "1234567890",
    "numbers": "1. 2. 3. ",
    "spaces": " ",
    "lines": "\n",
    "stops": ". ",
    "questions": "a? ",
    "commas": ",",
    "quotes": "'\" ",
    "brackets": "([",
    "angles": "<a ",
    "quoted": "> ",
    "stars": "*a **a ",
    "underlines": "_a",
    "backticks": "`a ``b ",
    "dollars": "$a ",
    "backslashes": "\\",
    "links": "[a](b) ![",
    "addresses": "https://a.b/c ",
    "mail": "a@b.",
    "entities": "&#1; &a",
    "table": "|a|b",
    "list": "- a\n  ",
    "tildes": "~~a",
    "dashes": "a-",
    "apostrophes": "a's ",
    "capitals": "AB. Cd! ",
    "pronouns": "the tax office wants bread, it, ",
    "Chinese": "**中文**。",
    "spoken": "no, it's not the answer but ",
}
BEGINNINGS = ("", "<think>", "What is ", "Here is ", "no, not ")


def message(text: str, role: str = "assistant") -> MessageView:
    return MessageView("m", "c", role, "message", text)  # type: ignore[arg-type]


def trace(at: int, question: str, answer: str) -> Trace:
    prompt = [{"role": "user", "content": question}]
    return Trace(
        id=f"t{at}", side="win", conversation_id="c", message_id=f"m{at}", subject_id=f"s{at}", prompt=prompt,
        completion=answer, confidence=1.0, source="edited", status="trained", base="b", round_id=None,
        created_at_utc=f"2026-11-29T00:00:{at:02d}+00:00",
    )  # fmt: skip


def learned(text: str) -> LearnedView:
    return LearnedView("m", text, text, text, "edited", "learned", 1.0, "2026-11-29T00:00:00+00:00")


def parts(text: str) -> list[str]:
    return [text[i : i + 4] for i in range(0, len(text), 4)]


def circle(text: str) -> CircleView:
    return CircleView("f", "k", "", "1h", (), (), (MergeView("2026-11-29", text, 1, [text]),))


def as_export(text: str, form: str) -> Any:
    view = ConversationView("c", text, True, "2026-11-29T00:00:00+00:00")
    return exported(view, [message(text)], text, "m", form)


def code(text: str, language: str) -> str:
    return render(f"```{language}\n{text}\n```")


READERS: dict[str, Callable[[str], Any]] = {
    "split_thought": split_thought,
    "pieces": pieces,
    "without_empty_thought": without_empty_thought,
    "is_thinking": is_thinking,
    "read_hint": read_hint,
    "read_hint, question": partial(read_hint, "no, it's Oslo"),
    "stated": lambda text: stated([(text, text)], text),
    "case_variants": case_variants,
    "cue, message": lambda text: cue(FollowUp("What is the capital?", "Bergen.", text)),
    "cue, reply": lambda text: cue(FollowUp("What is the capital?", text, "no, it's Oslo")),
    "cue, question": lambda text: cue(FollowUp(text, "Bergen.", "no, it's Oslo")),
    "last_question": sentences.last_question,
    "first_sentence": sentences.first_sentence,
    "to_you": sentences.to_you,
    "sentence_with": lambda text: sentences.sentence_with("zebra", f"{text} zebra"),
    "in_place_of": lambda text: sentences.in_place_of("a b", "zebra", text),
    "endings": lambda text: sentences.endings(text, text),
    "with_other_subject": lambda text: sentences.with_other_subject(text, "Oslo", "a b owl"),
    "from_question": lambda text: question_sentences.from_question(text, "Oslo"),
    "from_question_many": lambda text: question_sentences.from_question(f"How many {text}", "two"),
    "from_question_have": lambda text: question_sentences.from_question(f"How many a does {text.replace('?', ' ')} have?", "two"),
    "from_question_do": lambda text: question_sentences.from_question(f"Where does {text.replace('?', ' ')}?", "two"),
    "said_to_you": lambda text: sentences.said_to_you(text, text),
    "from_question_why": lambda text: question_sentences.from_question(f"Why is {text.replace('?', ' ')}?", "because"),
    "added_words": lambda text: sentences.added_words(text, text),
    "without_introduction": lambda text: without_introduction(text, is_over=True),
    "question_key": question_key,
    "telling_words": lambda text: telling_words(text, "What is an owl?", text[::-1]),
    "gives": lambda text: gives(text, frozenset({"owl"})),
    "rephrased": rephrased,
    "other_wordings": lambda text: other_wordings(text, 8),
    "asked_in": lambda text: asked_in([{"role": "user", "content": text}, {"role": "user", "content": text}]),
    "normalised": normalised,
    "is_degenerate": is_degenerate,
    "change_of_form": lambda text: change_of_form(text, text + " more"),
    "standing_preferences": lambda text: standing_preferences([GrantedPreference(text, text, text, f"{text} b")] * 4),
    "contradictions": lambda text: contradictions([trace(i, "What is an owl?", text) for i in range(8)]),
    "contradictions, question": lambda text: contradictions([trace(i, text, "owl") for i in range(8)]),
    "read_history": lambda text: read_history([*(Said("user", part) for part in parts(text)), Said("user", "a")]),
    "read_messages": lambda text: read_messages([ChatMessage(role="user", content=text)]),
    "preference row": lambda text: trl_rows.preference({"prompt": "a" + text, "chosen": text, "rejected": text + "b"}),
    "row of many messages": lambda text: trl_rows.preference(
        {"prompt": "a", "chosen": [{"role": "assistant", "content": part} for part in parts(text)], "rejected": "a"}
    ),
    "export, Markdown": partial(as_export, form="markdown"),
    "export, JSON": partial(as_export, form="json"),
    "without_addresses": lambda text: without_addresses(circle(text)),
    "render": render,
    "formula": lambda text: render(f"$${text[:4000]}$$ \\({text[:4000]}\\)"),
    "code": partial(code, language=""),
    "code, a language that is not coloured": partial(code, language="cobol"),
    "code, Python": partial(code, language="python"),
    "code, C++": partial(code, language="cpp"),
    "quote": quote,
    "message": lambda text: chat_value([message(f"b{text}"), message(text, "user")], "c"),
    "learned": lambda text: learned_html([learned(text)]),
    "filter": lambda text: matching([learned(text)] * 3, text),
}  # fmt: skip


def read_by(reader: Callable[[str], Any], text: str) -> float:
    """CPU seconds of this thread; what is refused in a sentence took its time too."""
    began = time.thread_time()
    with suppress(SpearError):
        reader(text)
    return time.thread_time() - began


def slow_shapes(
    reader: Callable[[str], Any], beginnings: Sequence[str] = ("",), shapes: Mapping[str, str] = SHAPES
) -> list[str]:
    """The texts for which four times the length took more than QUADRATIC times as long, twice."""
    slow = []
    for name, shape in shapes.items():
        for beginning in beginnings:
            took: list[float] = []
            for length in LENGTHS:
                text = beginning + (shape * (length // len(shape) + 1))[:length] + "x"
                took.append(read_by(reader, text))
                if len(took) > 1 and is_slow(took[-1], took[-2]):
                    again = read_by(reader, text + " ")  # another text, as some readers remember the last ones
                    if is_slow(again, took[-2]):
                        slow.append(f"{beginning!r} and {name}: {[f'{seconds:.4f}' for seconds in took]} s")
                        break
    return slow


def is_slow(took: float, took_before: float) -> bool:
    return took > TOO_SHORT_SECONDS and took > QUADRATIC * took_before


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_words_are_read_in_proportion_to_their_length(name: str) -> None:
    drawn = name.startswith(("render", "code", "message", "formula"))
    assert slow_shapes(READERS[name], ("",) if drawn else BEGINNINGS) == []


@pytest.mark.slow
def test_tokens_are_made_in_proportion_to_the_length_of_a_text(pocket_tokenizer: Any) -> None:
    def prompt(text: str) -> Any:
        return encode_prompt(pocket_tokenizer, [{"role": "user", "content": text}], max_tokens=400)

    assert slow_shapes(prompt) == []
    assert slow_shapes(partial(encode_completion, pocket_tokenizer), ("", "<think>")) == []


@pytest.fixture(scope="module")
def pocket_tokenizer() -> Any:
    return load_model(str(Path(__file__).resolve().parents[1] / "assets" / "pocket-model"), device="cpu").tokenizer


def test_two_long_answers_are_compared_at_their_ends() -> None:
    lose, win = [1, 2, *[7] * 3000, 3, 4], [1, 2, *[8] * 3000, 3, 4]
    began = time.thread_time()
    mask = distinguishing_mask(lose, win, {4})
    long = time.thread_time() - began
    assert mask == [False] * 2 + [True] * 3000 + [False] * 2
    began = time.thread_time()
    assert distinguishing_mask([1, 5, 2, 6, 3], [1, 2, 3], set()) == [False, True, False, True, False]
    assert distinguishing_mask(lose[:300], lose[:300], set()) == [False] * 300
    assert long < 100 * max(time.thread_time() - began, 0.001)
    assert distinguishing_mask([7] * 600, [7] * 700, set()) == [False] * 600


def test_a_line_of_very_many_turns_is_refused_before_they_are_multiplied() -> None:
    turns = [{"role": role, "content": "a"} for _ in range(500) for role in ("assistant", "user")]
    row = {"prompt": "q", "completion": turns[:-1], "label": True}
    with pytest.raises(trl_rows.RowRefused, match="completion has 999 messages; 200 are allowed"):
        trl_rows.unpaired(json.loads(json.dumps(row)))
    assert len(trl_rows.unpaired({**row, "completion": turns[:199]})) == 100


def test_the_measure_sees_what_reads_again_and_again() -> None:
    """Or it would find nothing in any case."""
    assert slow_shapes(lambda text: [re.findall("[^\x00]*\x00", text) for _ in range(10)], shapes={"one word": "a"})


@pytest.mark.slow
@pytest.mark.parametrize("language", sorted(COLOURED))
def test_code_is_coloured_in_a_time_that_no_line_of_it_squares(language: str) -> None:
    """Lines of a hundred characters, as code has them."""

    def lines(text: str) -> str:
        return code("\n".join(text[i : i + 100] for i in range(0, len(text), 100))[:MOST_CODE], language)

    assert "class=" in code("a = 1", language) and slow_shapes(lines) == []
