"""The pocket world, its tasks, and the simulated user's honesty (docs/METRICS.md)."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from pocket import wordings as w
from pocket.corpus import SHAPES, Corpus
from pocket.evaluation import distinct_tasks, retention_questions
from pocket.hints import MIN_CONSISTENT, best_clue, clues_of, consistent
from pocket.outside import ASKED, HELD_OUT
from pocket.simulated_user import SimulatedUser
from pocket.starter import starter_prompts, write_settings
from pocket.tasks import SHAPES as TASK_SHAPES
from pocket.tasks import open_task
from pocket.world import RELATIONS, load_world

WORLD = load_world()


def test_half_of_the_facts_of_every_relation_are_half_known() -> None:
    for relation in RELATIONS:
        assert len(WORLD.of(relation, half_known=True)) == len(WORLD.of(relation)) / 2
    assert len(WORLD.facts) == len({f.key for f in WORLD.facts}) >= 300


@pytest.mark.parametrize("relation", RELATIONS)
def test_no_hint_shows_more_than_half_of_the_answer_and_each_leaves_three_candidates(relation: str) -> None:
    rng = random.Random(1)
    candidates = WORLD.candidates[relation]
    for truth in candidates:
        for clue in clues_of(truth):
            if clue.kind in ("starts", "ends"):
                assert len(clue.value) <= len(truth) / 2
        for wrong in candidates:
            if wrong != truth:
                clue = best_clue(candidates, truth, [], {wrong}, rng)
                left = consistent(candidates, [clue])
                assert truth in left and len(left) >= MIN_CONSISTENT


def test_the_second_hint_separates_what_the_first_left_open() -> None:
    rng, candidates = random.Random(1), WORLD.candidates["kind"]
    left_after_two = []
    for truth in candidates:
        first = best_clue(candidates, truth, [], set(), rng)
        second = best_clue(candidates, truth, [first], set(), rng)
        assert len(consistent(candidates, [first])) >= MIN_CONSISTENT
        left_after_two.append(len(consistent(candidates, [first, second])))
    # `gem` shares all its vague clues with `game` and `garment`; most others are singled out
    assert left_after_two.count(1) > len(candidates) / 2


@pytest.mark.parametrize("shape", TASK_SHAPES)
def test_a_hint_never_states_the_answer(shape: str) -> None:
    user = SimulatedUser(3)
    for task in distinct_tasks(shape, 60, 5, half_known=shape != "sum"):
        correction = user.correct(task)
        for _ in range(2):
            hint = correction.hint("I do not know.")
            assert not re.search(rf"\b{re.escape(task.truth.lower())}\b", hint.lower()), (task, hint)


def test_a_user_who_has_said_all_that_is_vague_enough_says_it_again() -> None:
    (fact,) = [f for f in WORLD.of("colour", half_known=True) if f.truth == "red"][:1]
    correction = SimulatedUser(3).correct(open_task(WORLD, fact, w.OPEN["colour"][0]))
    hints = [correction.hint("I do not know.") for _ in range(8)]
    assert all(hints) and len(correction.given) < 8
    assert not any("red" in hint.lower().split() for hint in hints)


@pytest.mark.parametrize("shape", TASK_SHAPES)
def test_the_verdict_accepts_the_right_answer_and_refuses_others(shape: str) -> None:
    for task in distinct_tasks(shape, 40, 9, half_known=False):
        assert task.verdict(task.answer), task
        assert not task.verdict("") and not task.verdict(w.OUT_OF_WORLD)


def test_the_verdict_refuses_a_reply_that_names_two_answers() -> None:
    task = open_task(WORLD, WORLD.fact("kind:hammer"), w.OPEN["kind"][0])
    assert task.verdict("A hammer is a tool.") and task.verdict("tool")
    assert not task.verdict("A hammer is a tool or a bird.")


def test_held_out_wordings_never_appear_in_the_pretraining_text() -> None:
    held_out = {
        wording.format(x="", X="", y="", a="", b="", options="").strip(" ?.:,")
        for table in (w.OPEN, w.CHOICE, w.SAME)
        for wordings in table.values()
        for wording in w.split(wordings, held_out=True)
        if wording.startswith(("Please tell me", "Would you say"))
    }
    assert held_out
    corpus = Corpus(11)
    text = "\n".join(turn.text for _ in range(4000) for turn in corpus.exchange())
    assert "Please tell me, " not in text
    assert not [phrase for phrase in held_out if phrase in text]


def test_anchors_probes_and_retention_questions_do_not_meet() -> None:
    anchors, probes = starter_prompts()
    retention = {t.question for t in retention_questions()}
    assert len(retention) >= 500
    assert not set(anchors) & set(probes) and not (set(anchors) | set(probes)) & retention
    outside = set(HELD_OUT)
    assert not (set(anchors) | set(probes)) & outside
    for prompts in (anchors, probes):  # each kind has a share that no average can hide
        assert sum(p in ASKED for p in prompts) >= 0.1 * len(prompts)


def test_the_shipped_model_brings_these_prompts(tmp_path: Path) -> None:
    write_settings(tmp_path)
    shipped = Path(__file__).resolve().parents[2] / "assets" / "pocket-model" / "spear.json"
    assert json.loads(shipped.read_text()) == json.loads((tmp_path / "spear.json").read_text())


def test_the_corpus_repeats_from_its_seed_and_draws_every_shape() -> None:
    first, second = Corpus(4), Corpus(4)
    assert [first.exchange() for _ in range(200)] == [second.exchange() for _ in range(200)]
    for shape in SHAPES:
        turns = getattr(Corpus(1), f"_{shape}")()
        assert turns[-1].role == "assistant" and turns[-1].learn


def test_a_wrong_reply_that_gets_revised_is_never_imitated() -> None:
    corpus = Corpus(6)
    for _ in range(300):
        turns = corpus._revise_open()
        replies = [t for t in turns if t.role == "assistant"]
        assert replies[-1].learn and not any(t.learn for t in replies[:-1])


def test_a_half_known_fact_has_no_stable_truth_in_the_text() -> None:
    corpus, fact = Corpus(2), WORLD.of("kind", half_known=True)[0]
    drawn = [corpus._belief(fact) for _ in range(400)]
    assert len(set(drawn)) == len(WORLD.candidates["kind"])
    assert drawn.count(fact.truth) < 60  # chance is 25


def test_noise_flips_that_share_of_the_verdicts() -> None:
    task = open_task(WORLD, WORLD.fact("kind:hammer"), w.OPEN["kind"][0])
    noisy = SimulatedUser(1, noise=0.2)
    flipped = sum(not noisy.finds_right(task, task.answer) for _ in range(1000))
    assert 150 < flipped < 250
    with pytest.raises(ValueError, match="noise"):
        SimulatedUser(1, noise=1.5)
