"""The real model's benchmark: its data, what it counts, and that a study goes on where it was left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import real_baselines
from benchmarks.chat_while_training import p95
from benchmarks.real_corrections import (
    Correction,
    arc_challenge,
    personal_facts,
    qaedit,
    unrelated_questions,
)
from benchmarks.real_figures import changed, contains, leaks, percentile, right_choices
from benchmarks.real_learning import Progress, resumed
from benchmarks.real_measures import Probe, tally
from benchmarks.real_retrieval import Memory
from benchmarks.studies import save_checkpoint


def test_every_personal_fact_has_a_hint_three_wordings_and_two_neighbours() -> None:
    facts = personal_facts()
    assert len(facts) == 60
    for fact in facts:
        assert len(fact.wordings) == 3 and len(fact.neighbours) == 2
        assert contains(fact.answer, fact.target) and contains(fact.hint, fact.target)
        questions = [fact.question, *fact.wordings, *fact.neighbours]
        assert len(set(questions)) == 6
        assert not any(contains(question, fact.target) for question in questions)


def test_no_question_of_the_evaluation_stands_twice() -> None:
    facts, unrelated = personal_facts(), unrelated_questions()
    taught = [q for f in facts for q in (f.question, *f.wordings)]
    assert len(unrelated) >= 100
    assert len({*taught, *unrelated}) == len(taught) + len(unrelated)


@pytest.mark.parametrize(
    ("reply", "target", "expected"),
    [
        ("Your cat is called Pixel.", "pixel", True),
        ("It is the White House", "the white house", True),
        ("He is 11 years old.", "11", True),
        ("It happened in 2011.", "11", False),
        ("You pay 2,400 euros.", "2400", True),
        ("It leaves at 7:12.", "7:12", True),
        ("It is in Ann's drawer.", "Ann", True),
        ("Anything", "", False),
    ],
)
def test_a_reply_is_right_where_it_has_the_targets_whole_words(reply: str, target: str, expected: bool) -> None:
    assert contains(reply, target) is expected


def test_a_leak_is_a_taught_answer_that_the_untouched_model_does_not_give() -> None:
    assert leaks(["Your dog is Pixel.", "no idea"], ["I do not know.", "no idea"], "Pixel")
    assert not leaks(["Your dog is Pixel."], ["Pixel is its name."], "Pixel")


def test_only_the_first_eight_tokens_decide_whether_a_reply_changed() -> None:
    before = [[*range(8), 8], [1, 2], [1, 2]]
    assert changed([[*range(8), 9], [1, 3], [1, 2]], before) == pytest.approx(1 / 3)


def test_options_are_compared_per_character() -> None:
    # -4 / 4 = -1 for the short option, -6 / 12 = -0.5 for the long one: the long one is chosen
    assert right_choices([[-4.0, -6.0]], [[4, 12]], [1]) == 1.0
    assert right_choices([[-4.0, -6.0]], [[4, 12]], [0]) == 0.0


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.95) == 3.0
    assert percentile([], 0.5) == 0.0
    # nearest rank: of 20 values the 19th is the first that 95 per cent do not exceed, of four the second for a half
    assert percentile([float(n) for n in range(1, 21)], 0.95) == 19.0
    assert percentile([4.0, 1.0, 2.0, 3.0], 0.5) == 2.0
    assert p95([float(n) for n in range(1, 16)]) == 15.0, "and never more than the largest"


def test_shares_are_counted_over_wordings_and_over_corrections() -> None:
    taught = [
        Correction("q1", "a", "Pixel", "h", ("w1", "w2"), ("n1", "n2")),
        Correction("q2", "a", "Teal", "h", ("w3", "w4"), ("n3", "n4")),
    ]
    said = {"q1": "Pixel", "w1": "Pixel", "w2": "no", "n1": "no", "n2": "Pixel", "q2": "no", "w3": "Teal", "w4": "no"}

    def ask(questions: list[str]) -> list[str]:
        return [said.get(q, "no") for q in questions]

    learned = tally(taught, ask, lambda questions: ["no"] * len(questions))
    assert (learned.same, learned.wordings, learned.neighbour_leak) == (0.5, 0.5, 0.5)


class Told(Probe):
    """A probe whose model, one token a word, adds a seventh word where a correction is in the prompt."""

    def prompted(self, prompts: Sequence[Any], **how: Any) -> list[str]:
        self.batch_sizes = {how.get("batch_size", 32), *getattr(self, "batch_sizes", ())}
        return ["one two three four five six " + "seven" * ("Answer:" in p[0]["content"]) for p in prompts]

    def _ids(self, replies: Sequence[str]) -> list[list[int]]:
        return [[len(word) for word in reply.split()] for reply in replies]


def test_retrieval_is_measured_on_unrelated_questions_as_training_is() -> None:
    taught = [Correction("Who made my chair?", "Ann.", "Ann", "no, Ann", (), ())]
    probe = Told(None, ["Who made the moon?", "Is it late?"])  # type: ignore[arg-type]
    found = real_baselines.measure(["retrieval"], None, taught, probe)["retrieval"]  # type: ignore[arg-type]
    assert found["answers_changed"] == 0.5, "the seventh word is within the first eight tokens"
    assert 1 in probe.batch_sizes, "what a reply is computed with would change some"


def _records() -> list[dict[str, str]]:
    named = [("Chile", "blue"), ("Peru", "red"), ("France", "white"), ("old ships", "wood")]
    return [
        {"prompt": f"What is the colour of {s}?", "rephrase": f"{s} has what colour?", "subject": s, "target": t}
        for s, t in named
    ]


def test_a_template_neighbour_is_the_same_question_about_another_subject_of_the_same_shape(tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    file.write_text(json.dumps(_records()))
    chile = next(c for c in qaedit(file, seed=1) if c.target == "blue")
    assert set(chile.neighbours) == {"What is the colour of Peru?", "What is the colour of France?"}
    assert qaedit(file, seed=1) == qaedit(file, seed=1)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text('[{"question": "?"}]')
    with pytest.raises(ValueError, match="not a list of QAEdit records"):
        qaedit(file, seed=1)
    with pytest.raises(ValueError, match="not a file of ARC questions"):
        arc_challenge(file, 1)


def test_retrieval_puts_the_most_similar_correction_last_and_nothing_where_no_word_is_shared() -> None:
    facts = personal_facts()
    memory = Memory(facts)
    cat = next(f for f in facts if f.target == "Pixel")
    assert memory.nearest("my cat's name?")[-1] == cat
    assert cat.answer in memory.prompt("What's my cat called?")[0]["content"]
    assert memory.prompt("Xylophone")[0]["content"] == "Xylophone"


def test_a_study_goes_on_from_its_checkpoint_and_refuses_another_ones(tmp_path: Path) -> None:
    saved, data, asked = tmp_path / "checkpoint", tmp_path / "data", {"seed": 1}
    assert resumed(saved, data, asked) == Progress()
    data.mkdir()
    (data / "store").write_text("kept")
    save_checkpoint(saved, data, "progress.json", {"met": 3, "taught": [0, 2], "asked": asked})
    (data / "store").write_text("written after the checkpoint")
    progress = resumed(saved, data, asked)
    assert (progress.met, progress.taught) == (3, [0, 2])
    assert (data / "store").read_text() == "kept"
    with pytest.raises(SystemExit, match="other settings"):
        resumed(saved, data, {"seed": 2})
