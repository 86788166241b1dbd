"""The tasks: rows of the real schemas read right, bad rows counted, hints that give nothing away."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from experiments.tasks import TASKS, Rows, Task, make_task
from experiments.tasks.arc_challenge import ArcChallenge
from experiments.tasks.base import opening_words
from experiments.tasks.hellaswag import HellaSwag
from experiments.tasks.hub import DataUnavailable
from experiments.tasks.math_mcqa import MathMcqa
from experiments.tasks.strategy_qa import StrategyQa
from pocket.hints import clues_of

ARC = {
    "id": "Mercury_7",
    "question": "Which tool measures temperature?",
    "choices": {"text": ["ruler", "a glass thermometer", "scale", "clock"], "label": ["1", "2", "3", "4"]},
    "answerKey": "2",
}
HELLASWAG = {
    "ind": 4,
    "activity_label": "Making tea",
    "ctx_a": "A man boils water.",
    "ctx_b": "he",
    "ctx": "A man boils water. [header] Then he",
    "endings": ["eats the kettle.", "pours it [step] over the leaves in the pot.", "flies away.", "sleeps in it."],
    "source_id": "activitynet~v_1",
    "split": "train",
    "split_type": "indomain",
    "label": "1",
}
MATH = {
    "problem": "What is $2+3\\cdot 4$?",
    "choices": ["20", "14", "24", "9"],
    "answer": 1,
    "level": "Level 2",
    "type": "Prealgebra",
    "solution": "Multiplication comes first. We have $3\\cdot 4=12$. So $2+12=\\boxed{14}$.",
}
STRATEGY = {
    "qid": "b8677742616fef051f00",
    "term": "Albany, Georgia",
    "description": "City in Georgia",
    "question": "Will Albany in Georgia reach a hundred thousand people before Albany in New York?",
    "answer": False,
    "facts": "Albany, GA has about 75,000 people. Albany, NY has almost 100,000 people.",
}


def read(task: Task, *rows: dict[str, Any]) -> Rows:
    return task.read(rows, [], 100, 100)  # type: ignore[attr-defined, no-any-return]


def test_arc_labels_may_be_digits_and_the_answer_is_a_letter() -> None:
    (example,) = read(ArcChallenge(), ARC).train
    assert (example.answer, example.gold, example.choices[1]) == ("B", 1, "Answer: B")
    assert "B. a glass thermometer" in example.question
    assert ArcChallenge().right(example, "Thermometers do.\nAnswer: B")
    assert not ArcChallenge().right(example, "Answer: B, no, wait. Answer: C")
    assert not ArcChallenge().right(example, "B seems right")  # nothing was declared


def test_hellaswag_texts_lose_their_marks() -> None:
    (example,) = read(HellaSwag(), HELLASWAG).train
    assert "B. pours it over the leaves in the pot." in example.question
    assert "[header]" not in example.question
    assert example.gold == 1


def test_hints_show_at_most_three_words_and_never_the_whole_option() -> None:
    (example,) = read(HellaSwag(), HELLASWAG).train
    assert '"pours it over"' in HellaSwag().hinter(example, random.Random(0))("wrong")
    assert opening_words("a glass thermometer", 3) == "a"
    assert opening_words("photosynthesis", 3) == "photosy"


def test_maths_hints_open_the_solution_and_stop_before_its_result() -> None:
    (example,) = read(MathMcqa(), MATH).train
    assert example.support == ("Multiplication comes first.", "We have $3\\cdot 4=12$.")
    hinter = MathMcqa().hinter(example, random.Random(0))
    assert {hinter("wrong"), hinter("wrong")} == {"Multiplication comes first."}
    assert (example.answer, example.label) == ("B", "B")


def test_a_solution_that_begins_with_its_result_is_a_bad_row() -> None:
    rows = read(MathMcqa(), {**MATH, "solution": "It is 14."})
    assert rows.bad == Counter({"no step of the solution may be shown": 1})


def test_strategy_hints_are_half_of_the_facts_whether_text_or_list() -> None:
    for facts in (STRATEGY["facts"], ["Albany, GA has about 75,000 people.", "Albany, NY has almost 100,000 people."]):
        (example,) = read(StrategyQa(), {**STRATEGY, "facts": facts}).train
        assert StrategyQa().hinter(example, random.Random(0))("yes") == "Albany, GA has about 75,000 people."
        assert StrategyQa().right(example, "It is smaller. Answer: no")


@pytest.mark.parametrize(
    ("task", "row", "reason"),
    [
        (ArcChallenge(), {**ARC, "answerKey": "7"}, "the right option is not among the options"),
        (ArcChallenge(), {**ARC, "question": "  "}, "no question"),
        (ArcChallenge(), {k: v for k, v in ARC.items() if k != "choices"}, "a field is missing or of another kind"),
        (HellaSwag(), {**HELLASWAG, "label": ""}, "no label"),
        (HellaSwag(), {**HELLASWAG, "endings": ["a", "b", "b", "c"]}, "two options are the same"),
        (MathMcqa(), {**MATH, "answer": 9}, "the right option is not among the options"),
        (StrategyQa(), {**STRATEGY, "answer": "maybe"}, "the answer is neither true nor false"),
        (StrategyQa(), {**STRATEGY, "facts": ""}, "no facts to hint at"),
    ],
)
def test_bad_rows_are_counted_by_reason_and_left_out(task: Task, row: dict[str, Any], reason: str) -> None:
    rows = read(task, row)
    assert not rows.train
    assert [r for r in rows.bad if r.startswith(reason)] and sum(rows.bad.values()) == 1


def test_without_the_datasets_library_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataUnavailable, match="pip install -r requirements-experiments.txt") as e:
        ArcChallenge().load(1, 1, 0)
    assert "\n" not in str(e.value)


def write_rows(folder: Path, train: int, test: int) -> Path:
    for part, count in (("train", train), ("test", test)):
        rows = [json.dumps({**ARC, "id": f"{part}{i}"}) for i in range(count)]
        (folder / f"arc_challenge_{part}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_rows_come_from_a_folder_of_json_lines_and_the_seed_draws_which(tmp_path: Path) -> None:
    task = make_task("arc_challenge", write_rows(tmp_path, 9, 5))
    rows = task.load(9, 5, seed=0)
    assert [e.key for e in rows.train] == [f"train{i}" for i in range(9)]
    assert [e.key for e in rows.test] == [f"test{i}" for i in range(5)]
    drawn = [tuple(e.key for e in task.load(4, 2, seed).train) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 4


def test_worked_examples_are_earlier_turns_and_the_format_is_asked_for_in_a_few_words(tmp_path: Path) -> None:
    task = make_task("arc_challenge", write_rows(tmp_path, 1, 1), worked_examples=True)
    (example,) = task.load(1, 1, seed=0).train
    question, answer, last = example.prompt
    assert [m["role"] for m in example.prompt] == ["user", "assistant", "user"]
    assert task.extract(answer["content"]) == "C" and "C. eagle" in question["content"]
    assert last["content"].startswith(ARC["question"]) and last["content"].endswith(
        "D. clock\nEnd with a line: Answer: <letter>"
    )
    (plain,) = make_task("arc_challenge", tmp_path).load(1, 1, seed=0).train
    assert len(plain.prompt) == 1 and (plain.answer, plain.choices) == (example.answer, example.choices)


def test_a_folder_without_a_tasks_file_or_with_other_lines_is_named_in_one_sentence(tmp_path: Path) -> None:
    write_rows(tmp_path, 1, 1)
    with pytest.raises(DataUnavailable, match=r"strategy_qa_train.jsonl cannot be read .*check --data-folder") as e:
        make_task("strategy_qa", tmp_path).load(1, 1, 0)
    assert "\n" not in str(e.value)
    (tmp_path / "arc_challenge_test.jsonl").write_text("id,question\n", encoding="utf-8")
    with pytest.raises(DataUnavailable, match=r"arc_challenge_test.jsonl cannot be read as JSON lines"):
        make_task("arc_challenge", tmp_path).load(1, 1, 0)


@pytest.mark.parametrize("name", [n for n in TASKS if n.startswith("pocket")])
def test_a_pocket_twin_tests_in_wordings_that_it_never_trains_on(name: str) -> None:
    rows = TASKS[name]().load(60, 30, seed=3)
    assert (len(rows.train), len(rows.test)) == (60, 30)
    assert not {e.question for e in rows.train} & {e.question for e in rows.test}
    if name != "pocket_math":  # there other sums are asked, not other wordings
        assert {e.key for e in rows.test} <= {e.key for e in rows.train}


@pytest.mark.parametrize("name", [n for n in TASKS if n.startswith("pocket")])
def test_what_a_pocket_twin_calls_right_is_right_and_the_gold_choice_says_it(name: str) -> None:
    task = TASKS[name]()
    for example in task.load(40, 10, seed=5).train:
        assert task.right(example, task.privileged(example))
        if example.choices:
            assert [task.right(example, c) for c in example.choices].index(True) == example.gold


def test_pocket_hints_leave_the_answer_open() -> None:
    task = TASKS["pocket_open"]()
    for example in task.load(40, 10, seed=5).train:
        hint = task.hinter(example, random.Random(1))("I do not know.")
        assert example.answer.lower() not in hint.lower()
        assert len(clues_of(example.answer)) > 1


def test_the_answer_marker_is_protected_in_every_tokenisation() -> None:
    from spear_core.models.loading import load_model

    tokenizer = load_model(str(Path(__file__).resolve().parents[2] / "assets" / "pocket-model")).tokenizer
    protected = TASKS["pocket_choice"]().protected_ids(tokenizer)
    said = tokenizer("Iron is a metal. Answer: metal", add_special_tokens=False)["input_ids"]
    kept = "".join(tokenizer.decode([t]) for t in said if t not in protected)
    assert "Answer" not in kept and "metal" in kept
