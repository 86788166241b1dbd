"""Standing wishes: what counts as one, what does not, and that it reaches questions nobody corrected."""

from __future__ import annotations

import pytest

from pocket.tasks import open_task
from pocket.wordings import OPEN
from services.app import AppServices
from services.learning.style_preferences import GrantedPreference, change_of_form, preferences_for, standing_preferences
from tests.services.conftest import OpenBench
from tests.services.harness import WORLD, ask


@pytest.mark.parametrize(
    ("first", "revision", "change"),
    [
        ("An owl is a bird.", "Bird.", ("drops", frozenset())),
        ("An owl is a bird.", "An owl is a BIRD.", ("same words", frozenset())),
        ("An owl is a bird.", "Of course! An owl is a bird.", ("adds", frozenset({"of", "course"}))),
        ("An owl is a fish.", "An owl is a bird.", None),  # a fact was corrected
        ("An owl is a fish.", "Bird.", None),
        ("Norway is bigger than Sweden.", "Sweden is bigger than Norway.", None),
        ("An owl is a bird.", "An owl  is a bird.", None),
        ("An owl is a bird.", "", None),
    ],
)
def test_a_change_of_form_replaces_no_word(
    first: str, revision: str, change: tuple[str, frozenset[str]] | None
) -> None:
    assert change_of_form(first, revision) == change


def granted(number: int, hint: str, revision: str = "Bird.", first: str = "An owl is a bird.") -> GrantedPreference:
    return GrantedPreference(f"question {number}", first, hint, revision)


def test_a_wish_stands_once_it_was_granted_on_three_different_questions() -> None:
    twice = [granted(1, "shorter"), granted(2, "too long"), granted(2, "shorter")]
    assert standing_preferences(twice) == []
    assert standing_preferences([*twice, granted(3, "be brief")]) == ["be brief"]


def test_the_same_hint_that_corrects_facts_is_no_wish() -> None:
    facts = [
        GrantedPreference(f"What is a {x}?", f"A {x} is a fish.", "it is a bird", f"A {x} is a bird.")
        for x in ("wren", "jay", "gull", "crow")
    ]
    assert standing_preferences(facts) == []


@pytest.mark.parametrize(
    ("first", "revision", "hint"),
    [
        ("The {} meets on Monday.", "The {} meets on Monday at noon.", "at noon"),
        ("It was my brother or my cousin's {}.", "It was my cousin's {}.", "no, my cousin's"),
        ("It was my brother or my cousin's {}.", "My cousin.", ""),
    ],
)
def test_an_answer_that_was_stated_is_no_wish_whatever_it_adds_or_leaves_out(
    first: str, revision: str, hint: str
) -> None:
    things = ("choir", "team", "class", "board")
    said = [GrantedPreference(f"What about the {x}?", first.format(x), hint, revision.format(x)) for x in things]
    assert standing_preferences(said) == []


def test_additions_are_the_same_wish_only_where_they_share_a_word() -> None:
    because = [granted(i, "say why", f"An owl is a bird, because {w}.") for i, w in enumerate(("a", "b", "c"))]
    assert standing_preferences(because) == ["say why"]
    mixed = [granted(i, "more", f"An owl is a bird {w}.") for i, w in enumerate(("today", "indeed", "surely"))]
    assert standing_preferences(mixed) == []


def test_two_wishes_can_stand_and_the_latest_come_last() -> None:
    shorter = [granted(i, "shorter") for i in range(3)]
    capitals = [granted(i, "in capitals", "An owl is a BIRD.") for i in range(3)]
    assert standing_preferences([*shorter, *capitals]) == ["shorter", "in capitals"]


def test_an_answer_whose_revision_replaces_words_keeps_its_plain_form() -> None:
    said = [
        ([{"role": "user", "content": q}], a) for q, a in (("owl?", "An owl is a bird."), ("oak?", "An oak is a tree."))
    ]
    revisions = {"An owl is a bird.": "Bird.", "An oak is a tree.": "Fish."}
    out = preferences_for(said, ["shorter"], lambda cases: [revisions[tried[-1][0]] for _, tried in cases])
    assert out == [([("An owl is a bird.", "shorter")], "Bird."), ([], "An oak is a tree.")]


def wish(app: AppServices, count: int) -> list[str]:
    """Ask `count` known things and wish for a shorter answer. Returns the ids of the first replies."""
    facts = list(WORLD.of("kind", half_known=False))[: 3 * count]
    ids: list[str] = []
    for fact in facts:
        task = open_task(WORLD, fact, OPEN["kind"][0])
        reply = ask(app, task.question)
        if len(reply.text.split()) == 1 or len(ids) == count:
            continue
        revision = list(app.chat.revise(reply.id, "shorter"))[-1]
        if len(revision.text.split()) == 1 and task.verdict(revision.text):
            app.feedback.better(revision.id)
            app.learning.run_pending()
            ids.append(reply.id)
    assert len(ids) == count
    return ids


@pytest.mark.slow
def test_a_standing_wish_reaches_questions_nobody_corrected_and_goes_when_it_is_forgotten(
    open_app: OpenBench,
) -> None:
    app = open_app()
    unseen = [open_task(WORLD, f, OPEN["kind"][1]) for f in WORLD.of("kind", half_known=False)[-48:]]
    ids = wish(app, 3)
    assert "Your preference “shorter” now applies to all answers." in app.learning.status().detail
    replies = [ask(app, t.question, learn=False).text for t in unseen]
    assert sum(len(r.split()) == 1 for r in replies) >= 24
    # "just the word" leaves 0.78 to 0.83 of 60 right (python -m benchmarks.style), and 35 of these 48 on a processor without
    # bfloat16; twelve questions were too few to tell that from chance
    assert sum(t.verdict(r) for t, r in zip(unseen, replies, strict=True)) >= 29
    app.learning.forget(ids)
    app.learning.run_pending()
    assert app.learning.status().adapter_version == 0
    assert all(len(ask(app, t.question, learn=False).text.split()) > 1 for t in unseen)
