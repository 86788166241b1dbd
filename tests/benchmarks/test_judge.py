"""The judge's benchmark: its populations are what they say, its figures are shares of the right things."""

from __future__ import annotations

import json
import re

import pytest
import torch

from benchmarks import judge as app
from benchmarks.report import DEFAULT_MODEL
from pocket.hints import Clue
from pocket.simulated_user import SimulatedUser
from pocket.tasks import Task
from spear_core.models.loading import LoadedModel, load_model
from spear_core.training.judge import Score, Scored, Thresholds

KINDS = ("bird", "boat", "drink", "fish")


def case(
    gain: float, p: float, *, right: bool, clean: bool = True, sure: bool = False, shape: str = "open"
) -> app.Judged:
    return app.Judged(shape, "?", sure, Scored(Score(gain, p), clean, right))


def test_abstentions_count_as_misses_and_unclean_revisions_are_never_accepted() -> None:
    cases = [
        case(1.0, 0.9, right=True, sure=True),
        case(1.0, 0.9, right=False),
        case(1.0, 0.2, right=True, sure=True),  # not certain
        case(0.1, 0.9, right=True),  # says nothing
        case(1.0, 0.9, right=True, clean=False),
    ]
    found = app.outcome(cases, app.both(Thresholds(tau=0.5, min_p=0.7, tau_full=1.0)))
    # accepted: the first two, one of them right; four are right in all; a perfect reader is sure of two of those
    assert (found["accepted"], found["precision"], found["recall"], found["ideal_recall"]) == (2, 0.5, 0.25, 0.5)


def test_without_a_threshold_nothing_is_accepted_and_no_precision_is_claimed() -> None:
    found = app.outcome([case(9.0, 1.0, right=True)], app.both(None))
    assert (found["accepted"], found["precision"], found["recall"]) == (0, None, 0.0)
    assert app.outcome([case(9.0, 1.0, right=False)], app.both(None))["recall"] is None


def test_one_figure_alone_has_to_meet_the_same_demands() -> None:
    right, wrong = [case(1.0, 0.9, right=True)] * 20, [case(2.0, 0.5, right=False)] * 20
    by_gain = app.alone(lambda score: score.gain, right + wrong, 0.98)
    by_certainty = app.alone(lambda score: score.certainty, right + wrong, 0.98)
    assert not by_gain(Score(2.0, 1.0))
    assert by_certainty(Score(0.0, 0.9)) and not by_certainty(Score(9.0, 0.89))
    assert not app.alone(lambda score: score.certainty, right[:19] + wrong, 0.98)(Score(1.0, 1.0)), "19 are too few"


@pytest.mark.parametrize(
    ("options", "reply", "sure"),
    [(("bird", "fish", "drink"), "An owl is a fish.", True), (("bird", "boat", "fish"), "An owl is a fish.", False)],
)
def test_a_perfect_reader_is_sure_where_hint_refusal_and_options_leave_one(
    options: tuple[str, ...], reply: str, sure: bool
) -> None:
    answers = (*KINDS, "beer", "bean")
    task = Task("choice", "Which is an owl?", "bird", "An owl is a bird. Answer: bird", (), answers, options)
    correction = SimulatedUser(1).correct(task)
    correction.ruled_out.add("fish")
    correction.given.append(Clue("starts", "b"))
    assert app.leaves_one(task, correction) is sure


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def tried(loaded: LoadedModel) -> dict[str, list[app.Tried]]:
    return app.JudgeCases(loaded, 12, 3).populations()


def test_each_population_is_what_it_says(tried: dict[str, list[app.Tried]]) -> None:
    def states(t: app.Tried, hint: str) -> bool:
        return bool(re.search(rf"\b{t.truth}\b", hint))

    assert {t.shape for t in tried["partial"]} >= {"open", "choice", "yesno"}
    facts = [t for t in tried["partial"] if t.shape in ("open", "choice")]
    assert facts and not any(states(t, t.case.hint) for t in facts)
    assert {t.shape for t in tried["outright"]} <= {"open", "choice", "sum"}
    assert all(states(t, t.case.hint) and t.sure for t in tried["outright"])
    assert not any(states(t, t.case.hint) for t in tried["wrong"])
    failed = {(t.question, t.case.revision) for t in tried["partial"] if not t.right}
    assert tried["second"] and all((t.question, t.case.later[0][0]) in failed for t in tried["second"])
    assert all(len(t.case.attempts) == (2 if name == "second" else 1) for name, ts in tried.items() for t in ts)


@pytest.mark.slow
def test_the_benchmark_tells_outright_hints_from_guesses(
    loaded: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = app.run(loaded, cases_a_shape=48, seed=3, precision=0.95)
    assert json.loads(json.dumps(figures)) == figures
    assert figures["thresholds"] is not None
    found = figures["populations"]
    assert set(found) == set(app.POPULATIONS)
    assert found["outright"]["open"]["recall"] > 0.9
    assert found["partial"]["overall"]["recall"] < found["outright"]["overall"]["recall"]
    assert "precision" not in found["wrong"]["overall"] and 0 < found["wrong"]["overall"]["accepted_share"] <= 1
    assert found["partial"]["overall"]["ideal_recall"] < 1 == found["outright"]["overall"]["ideal_recall"]
    assert set(found["partial"]["own_thresholds"]) == {"gain", "certainty", "both"}
    app.print_figures(figures)
    assert "Bars: precision 0.98 at recall 0.7 overall" in capsys.readouterr().out


def test_no_question_is_in_both_halves() -> None:
    cases = [app.Judged("open", question, False, Scored(Score(1.0, 1.0), True, True)) for question in "aabbc"]
    own, test = app.halves(cases, {"a", "c"})
    assert [c.question for c in own] == ["a", "a", "c"] and [c.question for c in test] == ["b", "b"]
