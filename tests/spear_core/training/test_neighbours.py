"""Neighbours and other wordings of a question: what they change, what they keep, and that training holds the former."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spear_core.config import preset
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.shared_base import SharedBaseModels
from spear_core.training.gate import Reason
from spear_core.training.material import Anchors
from spear_core.training.neighbours import (
    Neighbour,
    Neighbours,
    content_words,
    cut,
    gives,
    neighbour_questions,
    split,
    telling_words,
)
from spear_core.training.probes import ProbeKind, Probes
from spear_core.training.round import Learner
from spear_core.training.traces import Encoder, TrainingTrace
from spear_core.training.wordings import Wordings, other_wordings
from tests.tiny_models import tiny_folder

QUESTION = "What is the name of my cat?"
PROMPT = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(str(tiny_folder("llama3", tmp_path_factory.mktemp("models") / "tiny")))


def test_the_words_that_tell_an_answer_are_those_that_no_question_has() -> None:
    assert telling_words("Your cat is called Luna.", QUESTION, "What is the name of my dog?") == {"luna"}
    assert telling_words("A spider has 8 legs.", "How many legs does a spider have?", "", "A spider has six legs.") == {
        "8"
    }
    assert telling_words("The key", "Where is the key?") == frozenset()


@pytest.mark.parametrize(
    ("reply", "leaks"), [("Your dog's name is Luna!", True), ("I do not know your dog.", False), ("Lunar?", False)]
)
def test_a_reply_gives_the_answer_where_it_has_its_telling_words(reply: str, leaks: bool) -> None:
    assert gives(reply, frozenset({"luna"})) is leaks
    assert not gives(reply, frozenset())


def test_a_neighbour_changes_one_content_word_and_is_made_the_same_again(loaded: LoadedModel) -> None:
    def made() -> list[str]:
        prompts = neighbour_questions(loaded.model, loaded.tokenizer, PROMPT, context_tokens=128, most=6)
        return [p[-1]["content"] for p in prompts]

    questions = made()
    assert questions == made() and len(set(questions)) == len(questions) <= 6
    for text in questions:
        assert len(text.split()) == len(QUESTION.split())
        assert sum(a != b for a, b in zip(text.split(), QUESTION.split(), strict=True)) == 1
        assert set(content_words(text)) != set(content_words(QUESTION))


def test_a_question_without_a_content_word_has_no_neighbours(loaded: LoadedModel) -> None:
    prompt = [{"role": "user", "content": "Who are you?"}]
    assert neighbour_questions(loaded.model, loaded.tokenizer, prompt, context_tokens=128) == []


def test_probes_are_never_among_those_that_train() -> None:
    made = [Neighbour([{"role": "user", "content": str(i)}], "x") for i in range(10)]
    halves = split(made, 3)
    assert len(halves.probes) == 3 and len(halves.trained) == 7
    assert not set(map(id, halves.probes)) & set(map(id, halves.trained))


def test_other_wordings_keep_what_the_question_is_about() -> None:
    made = other_wordings(QUESTION, 8)
    assert made == other_wordings(QUESTION, 8) and len(made) == 8 and QUESTION not in made
    assert all("cat" in text.lower() for text in made)
    assert other_wordings("Who are you?", 8) == [] and other_wordings("word " * 99, 8) == []


def test_wordings_are_encoded_for_what_the_round_knows_and_dropped_when_it_is_forgotten(loaded: LoadedModel) -> None:
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    trace = TrainingTrace("win", PROMPT, "Luna", key="t1")
    encoded, wordings = encoder.trace(trace), Wordings(encoder, 4)
    assert wordings.of(encoded) == []
    wordings.know([trace], [encoded])
    assert len(wordings.of(encoded)) == 4 and {e.completion_ids for e in wordings.of(encoded)} == {
        encoded.completion_ids
    }
    wordings.forget()
    assert wordings.of(encoded) == []


@pytest.mark.slow
def test_held_neighbours_keep_the_taught_answer_away_from_the_question_beside(loaded: LoadedModel) -> None:
    dog = Neighbour([{"role": "user", "content": "What is the name of my dog?"}], "no idea")
    win = TrainingTrace("win", PROMPT, "Luna", key="t1")

    def leak(hold: bool) -> tuple[bool, float]:
        changes = {"learning_rate": 1e-2, "prompt_dropout": 0.0, "gate_enabled": False, "taught_weight": 10.0}
        models = SharedBaseModels(loaded.model, preset("live", **changes), seed=3)
        encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
        learner = Learner(models, encoder, models.config, Anchors([]), Probes([]), pad_id=0)
        near = Neighbours((dog,) if hold else (), ())
        result = learner.run_round(None, [win], [], [], seed=1, neighbours={"t1": near})
        assert (result.report.neighbour_kl > 0) is hold and result.report.learned
        return learner.answer([dog.prompt]) == ["Luna"], result.report.neighbour_kl

    assert leak(False)[0] and not leak(True)[0]


@pytest.mark.slow
def test_a_round_asks_its_probes_of_neighbours_and_repairs_a_leak(loaded: LoadedModel) -> None:
    changes = {
        "learning_rate": 1e-2,
        "prompt_dropout": 0.0,
        "gate_max_probe_kl": 100.0,
        "gate_max_worst_probe_kl": 100.0,
        "gate_max_changed": 1.0,
        "gate_max_leaks": 0.0,
        "repair_steps": 10,
    }
    models = SharedBaseModels(loaded.model, preset("live", **changes), seed=3)
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    learner = Learner(models, encoder, models.config, Anchors([]), Probes([]), pad_id=0)
    dog, son = (
        Neighbour([{"role": "user", "content": f"What is the name of my {who}?"}], "no idea") for who in ("dog", "son")
    )
    win = TrainingTrace("win", PROMPT, "Luna", key="t1")
    unguarded = learner.run_round(None, [win], [], [], seed=1)
    assert unguarded.verdict.passed and unguarded.verdict.figures.neighbours == 0
    result = learner.run_round(None, [win], [], [], seed=1, neighbours={"t1": Neighbours((), (dog, son))})
    assert result.attempts > 1, "without any held neighbour a tiny model answers both alike"
    assert result.verdict.figures.neighbours == 2
    assert result.verdict.passed or result.verdict.reason in (Reason.LEAKED, Reason.STILL_WRONG)
    if result.verdict.passed:
        assert sum(a.leaks for a in result.after.answers) <= 1
    assert ProbeKind.NEIGHBOUR == "neighbour"


@pytest.mark.slow
def test_a_round_that_would_forget_earlier_confirmations_is_repaired_with_them(loaded: LoadedModel) -> None:
    changes = {"learning_rate": 1e-2, "prompt_dropout": 0.0, "gate_max_probe_kl": 100.0, "replay_wins": 0}
    changes |= {"gate_max_worst_probe_kl": 100.0, "gate_max_changed": 1.0, "gate_max_older_nll_rise": 100.0}
    earlier = [
        TrainingTrace("win", [{"role": "user", "content": f"Who is my {who}?"}], name, key=who)
        for who, name in (("boss", "Ada"), ("aunt", "Bo"), ("vet", "Cy"))
    ]
    win = TrainingTrace("win", PROMPT, "Luna", key="t1")

    def verdict(repair_steps: int) -> tuple[Reason, int]:
        models = SharedBaseModels(loaded.model, preset("live", **changes, repair_steps=repair_steps), seed=3)
        encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
        learner = Learner(models, encoder, models.config, Anchors([]), Probes([]), pad_id=0)
        taught = learner.run_round(None, earlier, [], [], seed=1)
        assert taught.verdict.figures.learned == 3
        result = learner.run_round(taught.state, [win], [], earlier, seed=1)
        return result.verdict.reason, result.attempts

    assert verdict(0)[0] == Reason.FORGOTTEN
    # at this rate the random model's answers swing, on each processor at other steps
    assert (Reason.LEARNED, 2) in {verdict(20), verdict(40)}


def test_only_the_beginning_of_a_long_answer_is_held(loaded: LoadedModel, tmp_path: Path) -> None:
    long = Encoder(loaded.tokenizer, loaded.context_tokens).plain(PROMPT, "a bird " * 20)
    assert len(cut(long, 8).completion_ids) == len(cut(long, 8).mask) == 8 and cut(long, 0) is long


def test_a_question_is_rephrased_by_grammar_and_keeps_its_content() -> None:
    made = other_wordings("Where do I keep the spare key?", 8)
    assert any(text.startswith(("Where is", "Where can I find", "I am looking for", "Tell me where")) for text in made)
    assert all("key" in text.lower() for text in made)


def test_wordings_with_the_models_own_answers_take_the_place_of_those_made_here(loaded: LoadedModel) -> None:
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    trace = TrainingTrace("win", PROMPT, "Luna", key="t1")
    encoded, wordings = encoder.trace(trace), Wordings(encoder, 4)
    asked = [{"role": "user", "content": "What is my cat called?"}]
    wordings.know([trace], [encoded], {"t1": [(asked, "It is called Luna.")]})
    (worded,) = wordings.of(encoded)
    assert worded == encoder.plain(asked, "It is called Luna.", key="t1")
    wordings.know([trace], [encoded], {"t1": []})
    assert len(wordings.of(encoded)) == 4
