"""How a chat feels while the model trains: `python -m benchmarks.chat_while_training [--json]`.

The real services over one model: one thread chats without a pause, reply after reply, while another gives corrections
and has them learned, round after round, gate and swap included. The chat alone, the rounds alone and both together take
turns, `--repeats` times, an adapter live in all of them: what else the machine does meets all three.

`ttft_ratio_p95`: 95th percentile of the time to the first token while training, less one micro-step, over that when idle.
`tokens_per_second_ratio`: reply tokens a second, whole replies, training over idle. `training_rate_ratio`: micro-steps
a second of the rounds, with the chat over without. Both are medians of the turns' own ratios; `..._spread` has the
smallest and the largest. `max_swap_ms`: the longest silence inside a reply that overlaps the swap of an adapter, less the
usual time between two pieces of text.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.real_figures import percentile
from benchmarks.report import add_common_flags, print_table
from pocket.tasks import open_task
from pocket.wordings import OPEN
from pocket.world import load_world
from services.app import AppServices, keep_what_is_loaded, open_services
from services.priority import ComputePriority
from services.settings import Settings
from spear_core.own_thread import in_own_thread

FIRST_ROUNDS = 20  # to get an adapter live
BARS = {"ttft_ratio_p95": 1.5, "tokens_per_second_ratio": 0.7, "training_rate_ratio": 0.3, "max_swap_ms": 50.0}


class CountingPriority(ComputePriority):
    """The app's compute priority, which also notes when each micro-step begins."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[float] = []

    def give_way(self) -> None:
        super().give_way()
        self.begun.append(time.perf_counter())


@dataclass
class Replies:
    """Replies one after the other: when each was asked for, and when each piece of its text came."""

    asked: list[float] = field(default_factory=list)
    pieces: list[list[float]] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    tokens: int = 0

    def add(self, others: Replies) -> None:
        self.asked += others.asked
        self.pieces += others.pieces
        self.ended += others.ended
        self.tokens += others.tokens

    @property
    def first_token_seconds(self) -> list[float]:
        return [p[0] - a for a, p in zip(self.asked, self.pieces, strict=True)]

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / sum(e - a for a, e in zip(self.asked, self.ended, strict=True))

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Begin and end of every silence inside a reply; before its first piece counts."""
        return [g for a, p in zip(self.asked, self.pieces, strict=True) for g in itertools.pairwise([a, *p])]


class Session:
    """A workbench, corrections for it to learn, and questions for it to answer."""

    def __init__(self, app: AppServices, seed: int) -> None:
        self.app = app
        self.engine = app.engine
        self.priority = CountingPriority()
        self.engine.priority = self.priority
        self.swaps: list[tuple[float, float]] = []
        rng, world = random.Random(seed), load_world()
        facts = [f for f in world.facts if f.half_known]
        rng.shuffle(facts)
        self.tasks = itertools.cycle([open_task(world, f, rng.choice(OPEN[f.relation])) for f in facts])
        settings = self.engine.loaded.settings
        questions = [*settings.examples, *settings.anchor_prompts]
        rng.shuffle(questions)
        self.questions = itertools.cycle(questions)
        publish = self.engine.shared_models.publish

        def timed(state: Any, version: int) -> None:
            began = time.perf_counter()
            publish(state, version)
            self.swaps.append((began, time.perf_counter()))

        self.engine.shared_models.publish = timed  # type: ignore[method-assign]

    def learn_one(self) -> None:
        """One correction, edited into the reply it should have been, and its round."""
        task, store = next(self.tasks), self.engine.store
        conversation = self.app.chat.new_conversation()
        question = store.add_message(conversation.id, "user", task.question)
        reply = store.add_message(conversation.id, "assistant", "I do not know.", parent_id=question.id)
        self.app.feedback.edit(reply.id, task.truth)
        self.app.learning.run_pending()

    def chat(self, seconds: float) -> Replies:
        """Replies without a pause until the time is over; the one under way is finished."""
        out, tokenizer = Replies(), self.engine.loaded.tokenizer
        over = time.perf_counter() + seconds
        conversation = self.app.chat.new_conversation(learn=False)
        while time.perf_counter() < over:
            asked, pieces, text = time.perf_counter(), [], ""
            for view in self.app.chat.reply(conversation.id, next(self.questions)):
                if view.text and view.text != text:
                    pieces.append(time.perf_counter())
                    text = view.text
            if pieces:
                out.asked.append(asked)
                out.pieces.append(pieces)
                out.ended.append(time.perf_counter())
                out.tokens += len(tokenizer.encode(text, add_special_tokens=False)) + 1  # and the end token
            if len(out.asked) % 4 == 0:
                conversation = self.app.chat.new_conversation(learn=False)
        return out

    @contextmanager
    def training(self) -> Iterator[None]:
        """Round after round in a thread of its own, until the block ends and the round under way too."""
        stop = threading.Event()
        failure: list[BaseException] = []

        def work() -> None:
            try:
                while not stop.is_set():
                    self.learn_one()
            except BaseException as e:  # shown by the thread that waits
                failure.append(e)

        thread = threading.Thread(target=self.engine.priority.job(work), name="training")  # as the scheduler does it
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if failure:
            raise failure[0]

    def steps_between(self, start: float, end: float) -> int:
        return sum(start <= at < end for at in self.priority.begun)


def p95(values: list[float]) -> float:
    return percentile(values, 0.95)


def longest_swap_silence(replies: Replies, swaps: list[tuple[float, float]]) -> float:
    """Milliseconds beyond the usual gap, of the worst gap that overlaps a swap; 0 where no swap met a reply."""
    gaps = replies.gaps
    usual = statistics.median(end - start for start, end in gaps)
    met = [end - start for start, end in gaps for began, ended in swaps if start < ended and began < end]
    return max(0.0, max(met, default=0.0) - usual) * 1000


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            model=arguments.model,
            data_folder=Path(folder),
            device=arguments.device,
            threads=arguments.threads,
            seed=arguments.seed,
        )
        app_services = open_services(settings, start_jobs=False)
        try:
            app = Session(app_services, arguments.seed)  # before the learner takes hold of the engine's priority
            in_own_thread(app_services.learning.prepare)
            keep_what_is_loaded()
            return measure(app, arguments.seconds, arguments.repeats)
        finally:
            app_services.close()


def measure(app: Session, seconds: float, repeats: int) -> dict[str, Any]:
    for _ in range(FIRST_ROUNDS):
        in_own_thread(app.learn_one)
        if app.swaps:
            break
    else:
        raise SystemExit(f"none of {FIRST_ROUNDS} rounds was kept: there is no adapter to serve")
    app.chat(min(2.0, seconds))  # warm
    app.swaps.clear()

    idle_chat, busy_chat = Replies(), Replies()
    speeds, rates = [], []  # of each turn: (alone, together)
    steps: list[float] = []
    swaps: list[tuple[float, float]] = []
    for _ in range(repeats):
        alone = app.chat(seconds / repeats)
        started = time.perf_counter()
        while time.perf_counter() < started + seconds / repeats:
            in_own_thread(app.learn_one)
        rate_alone = app.steps_between(started, ended := time.perf_counter()) / (ended - started)
        steps += [b - a for a, b in itertools.pairwise(t for t in app.priority.begun if t >= started)]
        app.swaps.clear()
        with app.training():
            started = time.perf_counter()
            together = app.chat(2 * seconds / repeats)
            ended = time.perf_counter()
        speeds.append((alone.tokens_per_second, together.tokens_per_second))
        rates.append((rate_alone, app.steps_between(started, ended) / (ended - started)))
        swaps += [s for s in app.swaps if s[0] < ended]
        idle_chat.add(alone)
        busy_chat.add(together)

    micro_step = statistics.median(steps)
    idle_first, busy_first = idle_chat.first_token_seconds, busy_chat.first_token_seconds
    return {
        "ttft_ratio_p95": round(max(0.0, p95(busy_first) - micro_step) / p95(idle_first), 3),
        **_ratios("tokens_per_second", speeds),
        **_ratios("training_rate", rates),
        "max_swap_ms": round(longest_swap_silence(busy_chat, swaps), 1),
        "ttft_ms_p50": {"idle": _ms(statistics.median(idle_first)), "training": _ms(statistics.median(busy_first))},
        "ttft_ms_p95": {"idle": _ms(p95(idle_first)), "training": _ms(p95(busy_first))},
        "tokens_per_second": {
            "idle": round(statistics.median(alone for alone, _ in speeds), 1),
            "training": round(statistics.median(together for _, together in speeds), 1),
        },
        "micro_steps_per_second": {
            "idle": round(statistics.median(alone for alone, _ in rates), 2),
            "with_chat": round(statistics.median(together for _, together in rates), 2),
        },
        "micro_step_ms": _ms(micro_step),
        "swap_ms_p50": _ms(statistics.median([e - b for b, e in swaps])) if swaps else None,
        "swaps": len(swaps),
        "replies": {"idle": len(idle_first), "training": len(busy_first)},
        "threads": torch.get_num_threads(),
    }


def _ratios(name: str, turns: list[tuple[float, float]]) -> dict[str, Any]:
    """Together over alone: the median of all turns, and how far they lie apart."""
    ratios = [together / alone for alone, together in turns]
    return {
        f"{name}_ratio": round(statistics.median(ratios), 3),
        f"{name}_ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part; twice as long for both together")
    parser.add_argument("--repeats", type=int, default=5, help="turns that the parts are cut into")
    arguments = parser.parse_args()
    figures = run(arguments)
    if arguments.json:
        print(json.dumps(figures))
    else:
        print_table(
            ["figure", "value", "bar"],
            [[k, str(v), str(BARS.get(k, ""))] for k, v in figures.items()],
        )


if __name__ == "__main__":
    main()
