"""Whole runs on the pocket model: they learn, repeat, go on after a kill, and are reported as they were."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.scaling import Costs, simulate, tree
from experiments import runner
from experiments.algorithms import ALGORITHMS
from experiments.partition import partition
from experiments.play import ClientStreams, self_play
from experiments.report import write_report
from experiments.results import read_results
from experiments.runner import Simulation, play_run
from experiments.settings import Run, read_runs
from experiments.statistics import holm, interval, wilcoxon
from experiments.tasks import TASKS, Task
from federation.factors import digest_of
from federation.flower.strategy import ServerState
from spear_core.errors import ConfigError
from spear_core.models.loading import LoadedModel, load_model
from tests.tiny_models import tiny_folder

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
SMALL = """
task = "pocket_open"
model = "{model}"
algorithms = ["spear"]
seeds = [3]
[data]
train = 24
test = 12
[federation]
clients = 3
clients_a_round = 2
rounds = 3
learning_rate = 2e-3
[play]
rollouts = 5
group = 2
[spear]
lora_rank = 4
lora_dropout = 0.0
max_steps = 2
wins_a_step = 8
loses_a_step = 8
max_new_tokens = 20
"""


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(str(ROOT / "assets" / "pocket-model"))


def small(folder: Path, more: str = "") -> Run:
    file = folder / "small.toml"
    file.write_text(SMALL.replace("{model}", str(ROOT / "assets" / "pocket-model")) + more)
    return read_runs(file)[0]


def digest(folder: Path) -> str:
    from safetensors.torch import load_file

    return digest_of(load_file(folder / "adapter" / "adapter_model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_trains_the_adapter_and_nothing_else(
    algorithm: str, loaded: LoadedModel, tmp_path: Path
) -> None:
    world = Simulation(dataclasses.replace(small(tmp_path), algorithm=algorithm), loaded)
    before = {name: p.clone() for name, p in loaded.model.named_parameters() if "lora_" not in name}
    start = world.runtime.shared_models.state()

    def moved(round_: int) -> bool:
        return any(
            not torch.equal(start[n], tensor) for n, tensor in world.client(round_, 0, start).update.state.items()
        )

    # a group whose answers are all right or all wrong teaches GRPO nothing, and which answers are drawn depends on the processor
    round_ = next(number for number in range(1, 7) if moved(number))
    first = world.client(round_, 0, start)
    assert first.update.weight > 0
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters() if "lora_" not in name)
    again = world.client(round_, 0, start)
    assert digest_of(again.update.state) == digest_of(first.update.state)  # its streams hang on seed, round, client


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_very_same_adapter(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small(tmp_path)
    play_run(run, tmp_path / "whole", loaded, quiet=True)

    def killed(world: Simulation, round: int, *rest: Any) -> Any:
        if round == 2:
            raise KeyboardInterrupt
        return after(world, round, *rest)

    after = runner.after_round
    with monkeypatch.context() as patch:
        patch.setattr(runner, "after_round", killed)
        with pytest.raises(KeyboardInterrupt):
            play_run(run, tmp_path / "torn", loaded, quiet=True)
    played: list[int] = []
    world = Simulation(run, loaded)

    def clients(round: int, chosen: Sequence[int], state: ServerState) -> list[Any]:
        played.append(round)
        return world.clients(round, chosen, state)

    play_run(run, tmp_path / "torn", loaded, quiet=True, clients=clients)
    assert played == [2]
    assert digest(tmp_path / "torn" / run.folder) == digest(tmp_path / "whole" / run.folder)
    lines = [json.loads(line) for line in (tmp_path / "torn" / run.folder / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1, 2, 3]
    (result,), incomplete = read_results(tmp_path / "whole")
    assert not incomplete and result.accuracy[0] == sum(map(int, result.lines[0]["right"])) / 12
    assert len(result.answers) == 12
    write_report(tmp_path / "whole", tmp_path / "report")
    assert (tmp_path / "report" / "pocket_open.svg").stat().st_size > 1000
    drawn = json.loads((tmp_path / "report" / "pocket_open.json").read_text())
    assert drawn["accuracy_by_round"]["spear"]["3"][1] == result.accuracy


@pytest.mark.slow
def test_the_untouched_model_is_measured_once_for_all_runs_of_a_task(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small(tmp_path)
    run = dataclasses.replace(run, federation=dataclasses.replace(run.federation, rounds=1))
    measured: list[str] = []

    def counted(world: Simulation, state: ServerState) -> dict[str, Any]:
        measured.append(world.run.folder)
        return own(world, state)

    own = runner._measured
    monkeypatch.setattr(runner, "_measured", counted)
    lines = []
    for other in (run, dataclasses.replace(run, algorithm="dpo", seed=4)):
        play_run(other, tmp_path / "out", loaded, quiet=True)
        lines.append(json.loads((tmp_path / "out" / other.folder / "rounds.jsonl").read_text().splitlines()[0]))
    assert measured == [run.folder, run.folder, "small/main/dpo-seed4"]  # before and after; after
    assert lines[0] == lines[1]
    more = dataclasses.replace(run, seed=5, spear=run.spear.replace(max_new_tokens=10))
    play_run(more, tmp_path / "out", loaded, quiet=True)
    assert len(measured) == 5  # shorter replies are another measurement


def test_where_the_data_lie_is_no_part_of_a_runs_settings(tmp_path: Path) -> None:
    run = small(tmp_path)
    moved = dataclasses.replace(run, data=dataclasses.replace(run.data, folder="/elsewhere"))
    assert moved.digest == run.digest and "elsewhere" not in json.dumps(moved.record())


# the families of experiments/runs_paper: Qwen2.5's tokenizer has a chat template, the base Llama-3.2's has none
FAMILIES = [("qwen2.5-1.5b", "qwen2"), ("llama-3.2-3b", "plain")]
PAPER = {
    "arc_challenge": [
        {
            "id": f"r{i}",
            "question": f"What is {i} + 1?",
            "choices": {"text": [str(i + 1), str(i + 2), str(i + 3), str(i + 4)], "label": list("ABCD")},
            "answerKey": "A",
        }
        for i in range(12)
    ],
    "strategy_qa": [
        {"qid": f"r{i}", "question": f"Is {i} even?", "answer": i % 2 == 0, "facts": ["Two is even.", "One is odd."]}
        for i in range(12)
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "kind"), FAMILIES)
@pytest.mark.parametrize("task", sorted(PAPER))
@pytest.mark.parametrize("algorithm", ["spear", "grpo"])
def test_a_published_run_plays_a_round_with_a_random_model_of_its_family(
    task: str, variant: str, kind: str, algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "test"):
        text = "".join(json.dumps(row) + "\n" for row in PAPER[task])
        (tmp_path / f"{task}_{part}.jsonl").write_text(text, encoding="utf-8")
    run = next(
        r for r in read_runs(ROOT / "experiments" / "runs_paper" / f"{task}.toml")
        if r.variant == variant and r.algorithm == algorithm
    )  # fmt: skip
    run = dataclasses.replace(
        run,
        model=str(tiny_folder(kind, tmp_path / "model")),
        data=dataclasses.replace(run.data, folder=str(tmp_path)),
        federation=dataclasses.replace(run.federation, rounds=1, clients=2, clients_a_round=1),
        play=dataclasses.replace(run.play, rollouts=3, group=2),
        spear=run.spear.replace(max_new_tokens=8),
    )
    # a random model declares no answers: every second reply is called right, so that there is something to train on
    said = itertools.cycle((True, False))
    monkeypatch.setattr(Task, "right", lambda self, example, reply: next(said))
    loaded = load_model(run.model, dtype="bfloat16")
    assert (loaded.tokenizer.chat_template is None) == (kind == "plain")
    last = play_run(run, tmp_path / "out", loaded, quiet=True)
    (counts,) = last["clients"].values()
    assert counts["steps"] == run.spear.max_steps and counts["weight"] > 0 and math.isfinite(counts["loss"])
    assert (tmp_path / "out" / run.folder / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_other_settings_never_go_on_from_a_checkpoint(loaded: LoadedModel, tmp_path: Path) -> None:
    run = small(tmp_path)
    one = dataclasses.replace(run, federation=dataclasses.replace(run.federation, rounds=1))
    play_run(one, tmp_path / "out", loaded, quiet=True)
    assert play_run(run, tmp_path / "out", loaded, quiet=True)["round"] == 3


def test_a_run_that_starts_over_with_other_settings_is_incomplete_until_its_end(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    run, out = small(tmp_path), tmp_path / "out"
    play_run(run, out, loaded, quiet=True, clients=lambda *_: [])

    def stopped(round: int, *_: Any) -> list[Any]:
        if round:
            raise KeyboardInterrupt
        return []

    with pytest.raises(KeyboardInterrupt):
        play_run(dataclasses.replace(run, evaluate_every=2), out, loaded, quiet=True, clients=stopped)
    assert read_results(out) == ([], [run.folder])


def test_hints_are_in_no_training_context(loaded: LoadedModel, tmp_path: Path) -> None:
    world = Simulation(small(tmp_path), loaded)
    experience = world.algorithm.gather(world.runtime, world.shards[0][:6], ClientStreams(3, 0, 0))
    prompts = {world.runtime.encode(e.example.prompt) for e in experience.episodes}
    assert {t.prompt_ids for t in [*experience.items.wins, *experience.items.loses]} <= prompts
    assert any(len(e.replies) > 1 for e in experience.episodes)


def test_label_noise_flips_what_the_user_says_and_not_what_is_counted(loaded: LoadedModel, tmp_path: Path) -> None:
    run = small(tmp_path)
    world = Simulation(dataclasses.replace(run, play=dataclasses.replace(run.play, label_noise=0.999)), loaded)
    episodes = self_play(world.runtime, world.shards[0][:8], ClientStreams(3, 0, 0), num_revisions=0)
    assert all(e.accepted[0] != world.runtime.task.right(e.example, e.replies[0].text) for e in episodes)


def test_every_example_goes_to_one_client_and_small_alpha_tells_clients_apart() -> None:
    examples = TASKS["pocket_open"]().load(120, 10, seed=1).train

    def shares(alpha: float) -> float:
        shards = partition(examples, 6, alpha, 1000, seed=2)
        assert sorted(e.question for shard in shards for e in shard) == sorted(e.question for e in examples)
        assert all(shards)
        kinds = [len({e.label for e in shard}) for shard in shards]
        return sum(kinds) / len(kinds)

    assert shares(0.05) < shares(100.0)
    assert partition(examples, 6, 1.0, 1000, seed=2) == partition(examples, 6, 1.0, 1000, seed=2)
    assert max(map(len, partition(examples, 6, 1.0, 7, seed=2))) == 7


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("lambda_loose = 1.0", "unknown key spear.lambda_loose; did you mean lambda_lose"),
        ("[paly]", "unknown key paly; did you mean play"),
        ('[[variants]]\nplay = { hints = "some" }', "play.hints = 'some' is not allowed"),
        ("[data.x]\n", "TOML"),
    ],
)
def test_a_run_file_with_a_mistake_is_refused_in_one_line(more: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="small.toml") as e:
        small(tmp_path, more if said != "TOML" else "= 3")
    assert said in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").rglob("*.toml")), ids=lambda f: f.stem)
def test_every_committed_run_file_is_valid(file: Path) -> None:
    runs = read_runs(file)
    assert len({run.folder for run in runs}) == len(runs)


def test_wilcoxon_and_holm_by_hand() -> None:
    # all five differences positive: 2 of 2^5 assignments are as extreme
    assert wilcoxon([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    assert wilcoxon([0, 0]) == 1.0
    # ranks 1, 2, 3 with the smallest negative: |5 - 3| = 2 or more for sums 0, 1, 5, 6 -> 4 of 8
    assert wilcoxon([-1, 2, 3]) == pytest.approx(4 / 8)
    # shares of 200 questions: differences of equal size are ties, whatever their last bits
    assert wilcoxon([0.4 - 0.3, 0.3 - 0.2, 0.2 - 0.3]) == wilcoxon([1, 1, -1])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_an_interval_is_wider_when_questions_share_a_cluster() -> None:
    values = [[1.0] * 10 + [0.0] * 10] * 3
    alone = interval(values, [str(i) for i in range(20)])
    together = interval(values, [str(i // 10) for i in range(20)])
    assert alone.mean == together.mean == 0.5
    assert together.high - together.low > alone.high - alone.low


def test_a_tree_of_servers_takes_in_every_update_and_ends_in_one_root() -> None:
    assert [(x.servers, x.updates) for x in tree(10_000, 100)] == [(100, 100), (1, 100)]
    assert [(x.servers, x.updates) for x in tree(5, 100)] == [(1, 5)]
    costs = Costs(update_bytes=10**6, merge_seconds=1.0, fan_in=100)
    few, many = simulate(100, costs, 1000.0), simulate(10_000, costs, 1000.0)
    assert many["seconds"] == pytest.approx(2 * few["seconds"])  # two levels of the same size
    assert few["merge_seconds"] == pytest.approx(1.0)
    assert few["round_gigabytes"] == pytest.approx(0.2)
