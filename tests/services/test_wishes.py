"""Standing wishes: what counts as one, what does not, and that it reaches questions nobody corrected."""

from __future__ import annotations

import pytest

from pocket.tasks import open_task
from pocket.wordings import OPEN
from services.wishes import Granted, change_of_form, standing_wishes, wished_for
from services.workbench import Workbench
from tests.services.bench_desk import WORLD, ask
from tests.services.conftest import OpenBench


@pytest.mark.parametrize(
    ("first", "revision", "change"),
    [
        ("An owl is a bird.", "Bird.", ("drops", frozenset())),
        ("An owl is a bird.", "An owl is a BIRD.", ("same words", frozenset())),
        ("An owl is a bird.", "Of course! An owl is a bird.", ("adds", frozenset({"of", "course"}))),
        ("An owl is a fish.", "An owl is a bird.", None),  # a fact was corrected
        ("An owl is a fish.", "Bird.", None),
        ("An owl is a bird.", "An owl  is a bird.", None),
        ("An owl is a bird.", "", None),
    ],
)
def test_a_change_of_form_replaces_no_word(
    first: str, revision: str, change: tuple[str, frozenset[str]] | None
) -> None:
    assert change_of_form(first, revision) == change


def granted(number: int, hint: str, revision: str = "Bird.", first: str = "An owl is a bird.") -> Granted:
    return Granted(f"question {number}", first, hint, revision)


def test_a_wish_stands_once_it_was_granted_on_three_different_questions() -> None:
    twice = [granted(1, "shorter"), granted(2, "too long"), granted(2, "shorter")]
    assert standing_wishes(twice) == []
    assert standing_wishes([*twice, granted(3, "be brief")]) == ["be brief"]


def test_the_same_hint_that_corrects_facts_is_no_wish() -> None:
    facts = [
        Granted(f"What is a {x}?", f"A {x} is a fish.", "it is a bird", f"A {x} is a bird.")
        for x in ("wren", "jay", "gull", "crow")
    ]
    assert standing_wishes(facts) == []


def test_additions_are_the_same_wish_only_where_they_share_a_word() -> None:
    because = [granted(i, "say why", f"An owl is a bird, because {w}.") for i, w in enumerate(("a", "b", "c"))]
    assert standing_wishes(because) == ["say why"]
    mixed = [granted(i, "more", f"An owl is a bird {w}.") for i, w in enumerate(("today", "indeed", "surely"))]
    assert standing_wishes(mixed) == []


def test_two_wishes_can_stand_and_the_latest_come_last() -> None:
    shorter = [granted(i, "shorter") for i in range(3)]
    capitals = [granted(i, "in capitals", "An owl is a BIRD.") for i in range(3)]
    assert standing_wishes([*shorter, *capitals]) == ["shorter", "in capitals"]


def test_an_answer_whose_revision_replaces_words_keeps_its_plain_form() -> None:
    said = [
        ([{"role": "user", "content": q}], a) for q, a in (("owl?", "An owl is a bird."), ("oak?", "An oak is a tree."))
    ]
    revisions = {"An owl is a bird.": "Bird.", "An oak is a tree.": "Fish."}
    out = wished_for(said, ["shorter"], lambda cases: [revisions[tried[-1][0]] for _, tried in cases])
    assert out == [([("An owl is a bird.", "shorter")], "Bird."), ([], "An oak is a tree.")]


def wish(bench: Workbench, count: int) -> list[str]:
    """Ask `count` known things and wish for a shorter answer. Returns the ids of the first replies."""
    facts = list(WORLD.of("kind", half_known=False))[: 3 * count]
    ids: list[str] = []
    for fact in facts:
        task = open_task(WORLD, fact, OPEN["kind"][0])
        reply = ask(bench, task.question)
        if len(reply.text.split()) == 1 or len(ids) == count:
            continue
        revision = list(bench.chat.revise(reply.id, "shorter"))[-1]
        if len(revision.text.split()) == 1 and task.verdict(revision.text):
            bench.feedback.better(revision.id)
            bench.learning.run_pending()
            ids.append(reply.id)
    assert len(ids) == count
    return ids


def test_a_standing_wish_reaches_questions_nobody_corrected_and_goes_when_it_is_forgotten(
    open_bench: OpenBench,
) -> None:
    bench = open_bench()
    unseen = [open_task(WORLD, f, OPEN["kind"][1]) for f in WORLD.of("kind", half_known=False)[-12:]]
    ids = wish(bench, 3)
    assert "Your wish “shorter” now goes for all answers." in bench.learning.status().detail
    replies = [ask(bench, t.question, learn=False).text for t in unseen]
    assert sum(len(r.split()) == 1 for r in replies) >= 6
    assert sum(t.verdict(r) for t, r in zip(unseen, replies, strict=True)) >= 9
    bench.learning.forget(ids)
    bench.learning.run_pending()
    assert bench.learning.status().adapter_version == 0
    assert all(len(ask(bench, t.question, learn=False).text.split()) > 1 for t in unseen)
