"""Training trains: what must move moves, what must not does not, on a tiny random Llama and real LoRA."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spear_core.config import SpearConfig, preset
from spear_core.errors import TrainingFailed
from spear_core.models.decoder_layers import layers_of
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.prompts import template_token_ids
from spear_core.models.shared_base import AdapterState, SharedBaseModels
from spear_core.training import material as material_module
from spear_core.training import probes as probes_module
from spear_core.training import trainer as trainer_module
from spear_core.training.attempts import HOLES
from spear_core.training.gate import Reason
from spear_core.training.material import Anchors, DriftDraw, Material
from spear_core.training.probes import Measures, Probe, Probes
from spear_core.training.round import Learner, RoundResult
from spear_core.training.scoring import is_given, predict, score
from spear_core.training.traces import Encoded, Encoder, TrainingTrace
from spear_core.training.trainer import Trainer
from tests.tiny_models import tiny_folder

QUESTION = [{"role": "user", "content": "What is an owl?"}]
WIN = TrainingTrace("win", QUESTION, "a bird")
LOSE = TrainingTrace("lose", QUESTION, "a fish")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(str(tiny_folder("llama3", tmp_path_factory.mktemp("models") / "tiny")))


def shared_models_of(loaded: LoadedModel, **changes: Any) -> SharedBaseModels:
    return SharedBaseModels(
        loaded.model,
        preset("live", **{"learning_rate": 1e-2, "prompt_dropout": 0.0, "anchor_dropout": 0.0, **changes}),
        seed=3,
    )


def learner_of(loaded: LoadedModel, shared_models: SharedBaseModels) -> Learner:
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    probe = Probes.plain([encoder.plain([{"role": "user", "content": "Hello"}], "hello")])
    return Learner(shared_models, encoder, shared_models.config, Anchors([]), probe, pad_id=0)


def p_of(model: Any, example: Encoded) -> float:
    with torch.no_grad():
        return float(score(model, [example], 0, every_token=True).logps.sum().exp())


def test_a_round_moves_the_adapter_and_leaves_the_base_bit_equal(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded, lambda_lose=0.5, margin=0.0)
    base_before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    adapter_before = shared_models.state()
    learner = learner_of(loaded, shared_models)
    trainer = Trainer(shared_models.training, shared_models.config, 0, frozenset())
    # first let the model believe the wrong answer, so that there is something to unlearn
    untouched = p_of(shared_models.training, learner.encoder.trace(LOSE))
    believing = Trainer(shared_models.training, shared_models.config.replace(stop_when_learned=False), 0, frozenset())
    believing.train(Material([learner.encoder.plain(QUESTION, LOSE.completion)], []), seed=1)
    win, lose = learner.encoder.trace(WIN), learner.encoder.losing(LOSE, [WIN], shared_models.config)
    p_win, p_lose = p_of(shared_models.training, win), p_of(shared_models.training, lose)
    assert p_lose > 10 * untouched

    report = trainer.train(Material([win], [lose]), seed=1)

    assert report.learned
    assert p_of(shared_models.training, win) > p_win
    assert p_of(shared_models.training, lose) < p_lose
    assert any(not torch.equal(v, adapter_before[k]) for k, v in shared_models.state().items())
    assert all(torch.equal(p, base_before[n]) for n, p in loaded.model.named_parameters())


def test_training_one_twin_leaves_what_the_other_says_bit_equal(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    shared_models.publish(shared_models.state(), 1)
    learner = learner_of(loaded, shared_models)
    win = learner.encoder.trace(WIN)
    before = predict(shared_models.serving.model, [win], 0).values.detach().clone()
    Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(Material([win], []), seed=1)
    assert torch.equal(predict(shared_models.serving.model, [win], 0).values, before)


def test_a_learner_may_be_made_to_wait_before_each_layer_of_what_it_computes(loaded: LoadedModel) -> None:
    shared_models, waits = shared_models_of(loaded), []
    replace(learner_of(loaded, shared_models), aside=lambda: waits.append("one"))
    shared_models.training(torch.tensor([[5, 6, 7]]))
    assert waits == ["one"] * loaded.model.config.num_hidden_layers


def test_without_a_win_nothing_is_trained(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded, lambda_lose=1.0, margin=0.0)
    before = shared_models.state()
    learner = learner_of(loaded, shared_models)
    report = Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(
        Material([], [learner.encoder.losing(LOSE, [], shared_models.config)]), seed=1
    )
    assert report.skipped
    assert all(torch.equal(v, before[k]) for k, v in shared_models.state().items())


def test_the_same_seed_gives_the_same_adapter(loaded: LoadedModel) -> None:
    def trained() -> dict[str, torch.Tensor]:
        shared_models = shared_models_of(loaded, lora_dropout=0.1, stop_when_learned=False, max_steps=4)
        win = Encoder(loaded.tokenizer, loaded.context_tokens).trace(WIN)
        Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(Material([win], []), seed=5)
        return shared_models.state()

    first, second = trained(), trained()
    assert all(torch.equal(v, second[k]) for k, v in first.items())


@pytest.mark.parametrize("lora_dropout", [0.0, 0.1])
def test_every_step_checkpoints_where_that_is_chosen(loaded: LoadedModel, lora_dropout: float) -> None:
    shared_models = shared_models_of(loaded, gradient_checkpointing=True, lora_dropout=lora_dropout, max_steps=2)
    win = Encoder(loaded.tokenizer, loaded.context_tokens).trace(WIN)
    layer, seen = layers_of(shared_models.training)[-1], []

    def see(module: torch.nn.Module, *_: object) -> None:
        if torch.is_grad_enabled():
            seen.append(module.training and bool(module.gradient_checkpointing))

    hook = layer.register_forward_pre_hook(see)
    Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(Material([win], []), seed=1)
    hook.remove()
    assert seen and all(seen)
    assert not any(module.training for module in shared_models.training.modules())


def test_a_loss_that_is_not_finite_ends_the_round(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    broken = {k: torch.full_like(v, float("nan")) for k, v in shared_models.state().items()}
    shared_models.load(broken)
    win = Encoder(loaded.tokenizer, loaded.context_tokens).trace(WIN)
    with pytest.raises(TrainingFailed):
        Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(Material([win], []), seed=1)


def test_training_stops_as_soon_as_the_answer_is_learned(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded, max_steps=200)
    win = Encoder(loaded.tokenizer, loaded.context_tokens).trace(WIN)
    seen: list[int] = []
    report = Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(
        Material([win], []), 1, on_step=lambda p: seen.append(p.step)
    )
    assert report.learned
    assert 0 < report.steps < 200
    assert seen == list(range(1, report.steps + 1))


@pytest.mark.slow
def test_anchors_hold_what_nobody_complained_about(loaded: LoadedModel) -> None:
    def drift(weight: float) -> float:
        shared_models = shared_models_of(loaded, anchor_weight=weight, stop_when_learned=False, max_steps=20)
        learner = learner_of(loaded, shared_models)
        anchors = Anchors(
            [
                learner.encoder.plain([{"role": "user", "content": q}], "a tree")
                for q in ("What is an oak?", "What is a fir?")
            ]
        )
        Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(
            Material([learner.encoder.trace(WIN)], [], (), anchors), seed=1
        )
        base = anchors.base(shared_models.training, anchors.examples, 0)
        with torch.no_grad():
            kl, _ = predict(shared_models.training, anchors.examples, 0).kl_from(base)
        return float(kl.mean())

    assert drift(5.0) < 0.5 * drift(0.0)


def test_a_rejected_answer_that_rose_with_the_right_one_is_trained_on_until_it_falls(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(rejected_now: float) -> int:
        shared_models = shared_models_of(loaded, settle_steps=2)
        learner = learner_of(loaded, shared_models)
        trainer = Trainer(shared_models.training, shared_models.config, 0, frozenset())
        asked = iter([0.2])  # what the rejected answer's probability was before the round
        monkeypatch.setattr(trainer, "_probability", lambda loses: next(asked, rejected_now))
        lose = learner.encoder.losing(LOSE, [WIN], shared_models.config)
        return trainer.train(Material([learner.encoder.trace(WIN)], [lose]), seed=1).steps

    assert steps(rejected_now=0.9) == steps(rejected_now=0.1) + 7 * 2  # patience: eight times the settling steps


def test_half_of_what_a_step_takes_is_what_moved_most_and_the_rest_comes_in_turn() -> None:
    draw = DriftDraw(10, random.Random(1), 0.5)
    first = draw.draw(4)
    assert len(set(first)) == 4
    draw.drift.update(dict.fromkeys(first, 0.0) | {first[0]: 0.5, first[1]: 0.7})
    second = draw.draw(4)
    assert second[:2] == [first[1], first[0]]
    seen = {*first, *second}
    while len(seen) < 10:
        before = len(seen)
        seen |= set(draw.draw(4))
        assert len(seen) >= before + 1
    assert len(draw.draw(99)) == 10


@pytest.mark.slow
def test_older_wins_that_the_adapter_has_lost_are_trained_in_every_step(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_models = shared_models_of(loaded, replay_wins=4, max_steps=5, stop_when_learned=False, gate_enabled=False)
    learner = learner_of(loaded, shared_models)
    kept = [TrainingTrace("win", [{"role": "user", "content": f"Say {n}."}], "a bird") for n in range(12)]
    encoded = [learner.encoder.trace(t) for t in kept]
    teaching = Trainer(
        shared_models.training, shared_models.config.replace(max_steps=60, lambda_lose=0.0), 0, frozenset()
    )
    teaching.train(Material(encoded, []), seed=1)
    lost = TrainingTrace("win", [{"role": "user", "content": "What is iron?"}], "a metal")
    assert [row.learned for row in learner._rows([*encoded, learner.encoder.trace(lost)])] == [True] * 12 + [False]
    seen: list[list[tuple[int, ...]]] = []
    part = Trainer._part

    def spy(self: Trainer, rows: Any, *rest: Any) -> Any:
        seen.append([e.completion_ids for e in rows.wins])
        return part(self, rows, *rest)

    monkeypatch.setattr(Trainer, "_part", spy)
    result = learner.run_round(shared_models.state(), [WIN], [], [*kept, lost], seed=2)
    assert result.state is not None and result.before.held.count(False) == 1
    lost_ids = learner.encoder.trace(lost).completion_ids
    assert len(seen) == 5 and all(lost_ids in step and len(step) == 1 + 4 for step in seen)


def test_an_earlier_win_that_was_lost_comes_first_until_it_is_given_again(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded, replay_wins=2)
    learner = learner_of(loaded, shared_models)
    kept = [
        learner.encoder.trace(TrainingTrace("win", [{"role": "user", "content": f"Say {n}."}], "a tree"))
        for n in range(6)
    ]
    material = Material([learner.encoder.trace(WIN)], [], kept, forgotten=[kept[4]])
    draws = trainer_module._Draws(material, shared_models.config, random.Random(1))
    assert draws.of_replay.draw(2)[0] == 4
    draws.note_replayed(4, logp=-0.1)  # practised, and not known to be right again
    for i in (0, 1, 2, 3, 5):
        draws.note_replayed(i, logp=-0.9)
    assert draws.of_replay.draw(2)[0] == 4
    Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(Material(kept, []), seed=1)
    trainer = Trainer(shared_models.training, shared_models.config, 0, frozenset())
    trainer._look_at_replay(material, draws, random.Random(1))
    assert draws.lost == set()


def test_what_is_given_in_one_pass_is_what_counts_as_learned(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    learner = learner_of(loaded, shared_models)
    win, other = learner.encoder.trace(WIN), learner.encoder.trace(LOSE)
    Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(Material([win], []), seed=1)
    long = replace(win, completion_ids=win.completion_ids * 40, mask=win.mask * 40)
    model = shared_models.training
    assert [is_given(model, e) for e in (win, other, long)] == [
        row.learned for row in learner._rows([win, other, long])
    ]
    assert is_given(model, win) and not is_given(model, other)


@pytest.mark.slow
def test_the_earlier_win_that_a_new_one_moved_most_is_practised_once_that_is_learned(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_models = shared_models_of(loaded, replay_wins=2, max_steps=60, settle_steps=3, gate_enabled=False)
    learner = learner_of(loaded, shared_models)
    kept = [TrainingTrace("win", [{"role": "user", "content": f"Say {n}."}], "a tree") for n in range(12)]
    Trainer(shared_models.training, shared_models.config, 0, frozenset()).train(
        Material([learner.encoder.trace(t) for t in kept], []), seed=1
    )
    steps: list[list[tuple[int, ...]]] = []
    moved_most: list[tuple[int, tuple[int, ...]]] = []
    part, look = Trainer._part, Trainer._look_at_replay

    def spy(self: Trainer, rows: Any, *rest: Any) -> Any:
        steps.append([e.prompt_ids for e in rows.wins])
        return part(self, rows, *rest)

    def spy_look(self: Trainer, material: Material, *rest: Any) -> None:
        rows = self._rows(material.replay)
        worst = min(range(len(rows)), key=lambda i: (rows[i].learned, rows[i].mean_logp))
        moved_most.append((len(steps), material.replay[worst].prompt_ids))
        look(self, material, *rest)

    monkeypatch.setattr(Trainer, "_part", spy)
    monkeypatch.setattr(Trainer, "_look_at_replay", spy_look)
    result = learner.run_round(shared_models.state(), [WIN], [], kept, seed=2)
    assert result.report.learned and moved_most
    assert all(prompt in steps[at] for at, prompt in moved_most)
    assert all(len(set(step)) == 1 + 2 for step in steps), "a new one and two earlier ones"


def _with(config: SpearConfig, **changes: Any) -> Callable[[LoadedModel], SharedBaseModels]:
    return lambda loaded: SharedBaseModels(loaded.model, config.replace(**changes), seed=3)


def test_a_round_that_learned_is_kept_and_brings_its_proof(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded, gate_max_probe_kl=100.0, gate_max_changed=1.0)
    result = learner_of(loaded, shared_models).run_round(None, [WIN], [LOSE], [], seed=1)
    assert result.verdict.passed, result.verdict
    assert result.verdict.reason == Reason.LEARNED
    assert result.state is not None
    assert result.proof is not None and result.proof[2] == "a bird" and result.proof[1] != "a bird"


def test_a_round_that_breaks_other_answers_is_not_kept(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded, gate_max_probe_kl=0.0)
    result = learner_of(loaded, shared_models).run_round(None, [WIN], [LOSE], [], seed=1)
    assert not result.verdict.passed
    assert result.state is None
    assert result.verdict.reason in (Reason.DRIFT, Reason.ANSWERS_CHANGED)


def test_what_is_refused_for_drift_is_tried_twice_more_with_other_draws_and_holes_in_the_anchors(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    holes: list[float] = []
    real = Trainer.train

    def spy(trainer: Trainer, material: Material, seed: int, *rest: Any) -> Any:
        seeds.append(seed)
        holes.append(trainer.config.anchor_dropout)
        return real(trainer, material, seed, *rest)

    monkeypatch.setattr(Trainer, "train", spy)
    result = learner_of(loaded, shared_models_of(loaded, gate_max_probe_kl=0.0)).run_round(
        None, [WIN], [LOSE], [], seed=1
    )
    assert not result.verdict.passed and result.verdict.is_drift and result.attempts == 3
    assert len(set(seeds)) == 3
    assert holes == [0.0, HOLES, HOLES]
    unlearned = _with(preset("live"), learning_rate=1e-6, max_steps=1, gate_max_probe_kl=100.0, gate_max_changed=1.0)(
        loaded
    )
    assert learner_of(loaded, unlearned).run_round(None, [WIN], [LOSE], [], seed=1).attempts == 3
    assert holes[3:] == [0.0, 0.0, 0.0]


def test_what_was_corrected_is_no_measure_of_what_nobody_complained_about(loaded: LoadedModel) -> None:
    learner = learner_of(loaded, shared_models_of(loaded, gate_max_probe_kl=0.0, gate_max_worst_probe_kl=0.0))
    learner.probes = Probes.plain([learner.encoder.plain(QUESTION, "a cat")])
    taught = learner.run_round(None, [WIN], [], [], seed=1)
    assert taught.verdict.passed and taught.state is not None
    later = TrainingTrace("win", [{"role": "user", "content": "What is a harp?"}], "strings")
    assert learner.run_round(taught.state, [later], [], [WIN], seed=2).verdict.passed


def test_what_the_untouched_model_answers_counts_as_unmoved(loaded: LoadedModel) -> None:
    learner = learner_of(loaded, shared_models_of(loaded))
    said = [(QUESTION, "a cat"), ([{"role": "user", "content": "Hello"}], "hello")]
    examples = [learner.encoder.plain(prompt, answer) for prompt, answer in said]
    with torch.no_grad():
        for name, parameter in learner.shared_models.training.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)

    def measured(*covered: bool) -> Measures:
        probes = [Probe(e, is_covered=is_) for e, is_ in zip(examples, covered, strict=True)]
        return learner._measured([], [], [], Probes(probes))

    both, first, second, none = (measured(*c) for c in ((True, True), (True, False), (False, True), (False, False)))
    assert first.probe_kl > 0 and second.probe_kl > 0
    assert first.probe_kl + second.probe_kl == pytest.approx(both.probe_kl, rel=1e-3), (
        "of all probes, not of the covered ones"
    )
    assert first.probe_changed + second.probe_changed == pytest.approx(both.probe_changed)
    assert none.probe_kl == none.worst_probe_kl == none.probe_changed == 0.0
    learner.shared_models.load(None)


def test_an_anchor_is_cut_alike_for_both_models_and_each_time_otherwise(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_models = shared_models_of(loaded, anchor_dropout=0.5, stop_when_learned=False, max_steps=6, anchors_a_step=2)
    encoder = learner_of(loaded, shared_models).encoder
    asked = [{"role": "user", "content": "How many legs does a spider have in the morning?"}]
    hinted = encoder.hinted(asked, [*asked, {"role": "user", "content": "shorter"}], "eight")
    anchors = Anchors([hinted, encoder.plain(asked, "A spider has eight legs.")])
    pairs: list[tuple[list[Encoded], list[Encoded]]] = []
    real = trainer_module.predict

    def spy(model: Any, examples: Any, pad_id: int, **how: Any) -> Any:
        of_base = not torch.is_grad_enabled()
        if of_base:
            pairs.append((list(examples), []))
        else:
            for seen, now in pairs:
                now += [] if now else [e for e in examples if e.completion_ids == seen[0].completion_ids]
        return real(model, examples, pad_id, **how)

    for module in (trainer_module, material_module):
        monkeypatch.setattr(module, "predict", spy)
    Trainer(shared_models.training, shared_models.config.replace(learning_rate=1e-9), 0, frozenset()).train(
        Material([encoder.trace(WIN)], [], [], anchors), seed=1
    )
    cut = [(seen[0].prompt_ids, now[0].prompt_ids) for seen, now in pairs if len(seen[0].completion_ids) > 4]
    assert len(cut) == 6 and all(of_base == of_adapter for of_base, of_adapter in cut)
    assert len(set(cut)) > 3 and all(len(ids) < len(anchors.examples[1].prompt_ids) for ids, _ in cut)
    whole = [now[0] for seen, now in pairs if seen[0].completion_ids == hinted.completion_ids]
    assert whole == [hinted], "where the base model is shown another question, both stay whole"


def test_the_untouched_adapter_has_not_drifted_from_anchors_however_they_are_cut(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded, anchor_dropout=0.5, stop_when_learned=False, max_steps=1, lambda_win=0.0)
    learner = learner_of(loaded, shared_models)
    said = [("What is a dog?", "a pet"), ("Who are you?", "A small model."), ("Bye!", "Goodbye, and come back soon.")]
    anchors = Anchors([learner.encoder.plain([{"role": "user", "content": asked}], text) for asked, text in said])
    report = learner.trainer(shared_models.config).train(
        Material([learner.encoder.trace(WIN)], [], [], anchors), seed=1
    )
    assert abs(report.anchor_kl) < 1e-6


def test_no_anchor_holds_an_earlier_correction_to_the_base_models_answer(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(loaded, shared_models_of(loaded, gate_enabled=False, max_steps=2))
    learner.anchors = Anchors([learner.encoder.plain(QUESTION, "a cat"), *learner.probes.anchors.examples])
    seen: list[Material] = []
    real = Trainer.train

    def spy(trainer: Trainer, material: Material, *rest: Any) -> Any:
        seen.append(material)
        return real(trainer, material, *rest)

    monkeypatch.setattr(Trainer, "train", spy)
    later = TrainingTrace("win", [{"role": "user", "content": "What is a harp?"}], "strings")
    learner.run_round(None, [later], [], [WIN], seed=1)
    assert seen[0].anchors is not None and seen[0].anchors.examples == learner.probes.anchors.examples


def test_the_gate_looks_at_the_losing_traces_that_are_trained(loaded: LoadedModel) -> None:
    learner = learner_of(loaded, shared_models_of(loaded, gate_enabled=False, max_steps=2, max_lose_ratio=1.0))
    many = [TrainingTrace("lose", [{"role": "user", "content": f"What is number {i}?"}], f"{i}") for i in range(6)]
    seen: list[int] = []
    learner._measured = lambda wins, loses, *rest: (  # type: ignore[method-assign]
        seen.append(len(loses)) or Learner._measured(learner, wins, loses, *rest)
    )
    learner.run_round(None, [WIN], [LOSE, *many], [], seed=1)
    assert seen == [1, 1]


def test_probes_of_an_accepted_adapter_are_read_once_and_of_another_one_again(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = probes_module._read

    def spy(model: Any, tokenizer: Any, asked: Sequence[Encoded], *rest: Any, **more: Any) -> Any:
        read.append(len(asked))
        return real(model, tokenizer, asked, *rest, **more)

    monkeypatch.setattr(probes_module, "_read", spy)
    learner = learner_of(loaded, shared_models_of(loaded, gate_max_probe_kl=100.0, gate_max_changed=1.0))
    later = TrainingTrace("win", [{"role": "user", "content": "What is a harp?"}], "strings")
    first = learner.run_round(None, [WIN], [], [], seed=1)
    assert sum(read) == 1 + first.attempts, "the base model and each adapter that was trained"

    def read_in(state: AdapterState | None, win: TrainingTrace, older: TrainingTrace, seed: int) -> RoundResult:
        read.clear()
        return learner.run_round(state, [win], [], [older], seed=seed)

    second = read_in(first.state, later, WIN, 2)
    assert sum(read) == second.attempts, "what was accepted is not read again"
    learner.shared_models.load(first.state)
    assert learner._measured([], [], [], learner.probes) == replace(
        second.before, win_logp=0.0, learned=(), held=(), older_nll=0.0
    )
    assert first.state is not None
    copied = read_in({name: tensor.clone() for name, tensor in first.state.items()}, later, WIN, 2)
    assert sum(read) == 1 + copied.attempts, "equal tensors may be another adapter's"
    learner.probes = learner.probes.with_probes(
        [*learner.probes.all, Probe(learner.encoder.plain([{"role": "user", "content": "Bye"}], "bye"))]
    )
    third = read_in(first.state, later, WIN, 2)
    assert len(third.before.answers) == 2 and sum(read) == 2 * (1 + third.attempts)
    fourth = read_in(third.state, WIN, later, 3)
    assert sum(read) == 2 * fourth.attempts
    learner.forget([])
    fifth = read_in(fourth.state, later, WIN, 4)
    assert fifth.before.answers and sum(read) == 2 * (1 + fifth.attempts), (
        "what an adapter said may be people's words, and is not kept over a forgetting"
    )


def test_a_round_that_cannot_learn_in_time_is_not_kept(loaded: LoadedModel) -> None:
    shared_models = _with(
        preset("live"), learning_rate=1e-6, max_steps=1, gate_max_probe_kl=100.0, gate_max_changed=1.0
    )(loaded)
    result = learner_of(loaded, shared_models).run_round(None, [WIN], [LOSE], [], seed=1)
    assert not result.verdict.passed
    assert result.verdict.reason == Reason.STILL_WRONG and result.verdict.figures.learned == 0


@pytest.mark.parametrize("kind", ["qwen2", "llama3", "gemma2"])
def test_dropping_words_of_a_question_leaves_the_template_whole(tmp_path: Path, kind: str) -> None:
    loaded = load_model(str(tiny_folder(kind, tmp_path / "m")))
    template = template_token_ids(loaded.tokenizer)
    encoded = Encoder(loaded.tokenizer, loaded.context_tokens).trace(WIN)
    trainer = Trainer(loaded.model, preset("live"), 0, template)
    dropped = trainer._drop([encoded], random.Random(1), 0.99)[0]
    assert len(dropped.prompt_ids) < len(encoded.prompt_ids)
    assert [t for t in encoded.prompt_ids if t in template] == [t for t in dropped.prompt_ids if t in template]
    assert dropped.completion_ids == encoded.completion_ids
