"""A hundred corrections of a real language model, through the services the page uses: do they stick, do they spread?

`python -m benchmarks.real_learning --model FOLDER --preset general --data QAEDIT.json --corrections N --seed S --json`
Without --data it takes the project's own 60 personal facts; without --model and --preset the pocket model, as it is taught.

The person is simulated: they ask, say what is wrong as people type it, confirm a revision that has the answer, and write
the answer themselves where it has not. Model, training, gate and store are the real ones. Figures: docs/METRICS.md.
With --out the study is saved every 10 corrections and goes on from there. `--baselines` runs others on the same stream;
with --baselines-only nothing else is taught, and the corrections are the first that the untouched model answers wrong.
With --left-alone everything is asked a second time after the background jobs of the app have asked it again and trained what
was lost, as they do in the minutes after a correction; the other figures are those of a person who asks at once.
With --one-conversation the person never opens a new conversation: everything is said in one, and asked after what was said.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import real_baselines
from benchmarks.real_corrections import Correction, arc_challenge, personal_facts, qaedit, unrelated_questions
from benchmarks.real_figures import contains, mean, percentile
from benchmarks.real_measures import BATCH_SIZE, Probe
from benchmarks.studies import changed_keys, print_figures, save_checkpoint, study_parser, study_settings
from services.app import AppServices, open_services
from services.chat.conversation_tree import standing_reply
from services.learning.self_play import REASKED_AT_A_TIME
from spear_core.training.traces import Messages

CHECKPOINT_EVERY = 10  # corrections
ARC_QUESTIONS = 300
MOST_PASSES = 5  # of the background jobs over all that was taught


@dataclass
class Progress:
    """What happened so far; plain values, so that a checkpoint is one JSON file."""

    met: int = 0  # records of the stream that were asked
    taught: list[int] = field(default_factory=list)  # their places in the stream, of those that were corrected
    revised_right: list[bool] = field(default_factory=list)
    same: list[float] = field(default_factory=list)  # right after their round
    wordings: list[float] = field(default_factory=list)
    seconds_to_live: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    rounds: int = 0
    refused: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    conversation: str = ""  # id of the only one; empty: each question has one of its own
    last_reply: str = ""  # id of the newest reply there


class Study:
    """One stream of corrections on one running application."""

    def __init__(self, app: AppServices, stream: Sequence[Correction], probe: Probe, progress: Progress) -> None:
        self.app, self.stream, self.probe, self.progress = app, stream, probe, progress

    def stay_in_one_conversation(self) -> None:
        self.progress.conversation = self.progress.conversation or self.app.chat.new_conversation().id

    @property
    def taught(self) -> list[Correction]:
        return [self.stream[i] for i in self.progress.taught]

    def goes_on(self, corrections: int) -> bool:
        """Whether so many have not been taught yet and the stream has more."""
        return len(self.progress.taught) < corrections and self.progress.met < len(self.stream)

    def wrong_at_first(self, count: int) -> list[Correction]:
        """The first of the stream that the untouched model answers wrong, at most `count`."""
        wrong: list[Correction] = []
        for start in range(0, len(self.stream), BATCH_SIZE):
            part = self.stream[start : start + BATCH_SIZE]
            replies = self.probe.untouched([c.question for c in part])
            wrong += [c for c, reply in zip(part, replies, strict=True) if not contains(reply, c.target)]
            if len(wrong) >= count:
                break
        return wrong[:count]

    def meet(self) -> None:
        """Ask the next question of the stream and, where the reply is wrong, correct it and let it be learned."""
        done = self.progress
        number, correction = done.met, self.stream[done.met]
        torch.manual_seed(number)  # revisions after the first are sampled
        chat, feedback = self.app.chat, self.app.feedback
        conversation = done.conversation or chat.new_conversation().id
        reply = list(chat.reply(conversation, correction.question))[-1]
        done.met += 1
        done.last_reply = reply.id
        if contains(reply.text, correction.target):
            return
        revision = list(chat.revise(reply.id, correction.hint))[-1]
        done.revised_right.append(contains(revision.text, correction.target))
        self.app.learning.run_pending()  # as the scheduler does while the person reads the revision
        started = time.monotonic()
        if done.revised_right[-1]:
            feedback.better(revision.id)
        else:
            feedback.edit(reply.id, correction.answer)
        self._learn()
        next(iter(chat.reply(chat.new_conversation(learn=False).id, correction.question)))
        done.seconds_to_live.append(time.monotonic() - started)
        done.taught.append(number)
        learned = self.probe.learned([correction], neighbours=False, said=self._said())
        done.same.append(learned.same)
        done.wordings.append(learned.wordings)

    def _said(self) -> Messages:
        """What was said before the next question in the only conversation; nothing where there are several."""
        done = self.progress
        if not done.conversation or not done.last_reply:
            return []
        counts = standing_reply(self.app.engine.store.messages(done.conversation), done.last_reply)
        assert counts is not None
        return [*self.app.chat.prompt_of(done.last_reply), {"role": "assistant", "content": counts.text}]

    def _learn(self) -> None:
        engine, done = self.app.engine, self.progress
        last = engine.store.last_round(engine.base)
        before = last.id if last else 0
        self.app.learning.run_pending()
        for r in engine.store.rounds(engine.base, limit=10):
            if r.id > before and r.status in ("promoted", "discarded"):
                done.rounds += 1
                done.refused += r.status == "discarded"
                done.steps.append(r.figures.steps or 0)

    def checkpoint(self) -> None:
        """Measure the newest corrections' neighbours and the unrelated questions, and say so on stderr."""
        done = self.progress
        newest = self.probe.learned(self.taught[-CHECKPOINT_EVERY:], said=self._said())
        done.curve.append(
            {
                "corrections": len(done.taught),
                "learned_same": mean(done.same),
                "learned_wordings": mean(done.wordings),
                "neighbour_leak_newest": newest.neighbour_leak,
                "answers_changed": self.probe.answers_changed(),
            }
        )
        told = ", ".join(f"{key} {value:.2f}" for key, value in done.curve[-1].items() if key != "corrections")
        seconds = statistics.median(done.seconds_to_live or [0.0])
        print(f"{len(done.taught)} corrections: {told}, median {seconds:.1f} s", file=sys.stderr, flush=True)

    def leave_alone(self) -> dict[str, Any]:
        """Let the jobs ask all that was taught and train what was lost, until nothing is or MOST_PASSES; then measure."""
        app, relapses = self.app, []
        for _ in range(MOST_PASSES):
            relapses.append(sum(app.self_play.reask() for _ in range(0, len(self.taught), REASKED_AT_A_TIME)))
            if not relapses[-1]:
                break
            app.learning.run_pending()
        return {"relapses": relapses, **self._at_end()}

    def figures(self) -> dict[str, Any]:
        done = self.progress
        return {
            "corrections": len(done.taught),
            "already_right": done.met - len(done.taught),
            "revision_success": mean(done.revised_right),
            "learned_same": mean(done.same),
            "learned_wordings": mean(done.wordings),
            **self._at_end(),
            "rounds_refused": done.refused / done.rounds if done.rounds else 0.0,
            "seconds_to_live_p50": percentile(done.seconds_to_live, 0.5),
            "seconds_to_live_p95": percentile(done.seconds_to_live, 0.95),
            "steps_median": statistics.median(done.steps) if done.steps else 0,
            "curve": done.curve,
        }

    def _at_end(self) -> dict[str, float]:
        """Everything asked of the adapter that serves now."""
        taught = self.taught
        final = self.probe.learned(taught, said=self._said())
        first_third = self.probe.learned(taught[: max(1, len(taught) // 3)], neighbours=False, said=self._said())
        return {
            "same_at_end": final.same,
            "wordings_at_end": final.wordings,
            "lasting": first_third.wordings,
            "neighbour_leak": final.neighbour_leak,
            "answers_changed": self.probe.answers_changed(),
            "retention_nll": self.probe.retention_nll(),
            "task_drop": self.probe.task_drop(),
        }


def stream(arguments: argparse.Namespace) -> list[Correction]:
    """The corrections in the seed's order: of the file that --data names, or the project's own."""
    if arguments.data:
        return qaedit(Path(arguments.data), arguments.seed)
    return personal_facts(seed=arguments.seed)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole stream, from its last checkpoint on where --out names a folder that has one."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    changes = changed_keys(arguments)
    asked = {
        "seed": arguments.seed,
        "preset": arguments.preset,
        "changes": changes,
        "data": Path(arguments.data).name if arguments.data else "personal_facts.json",
    }
    if arguments.one_conversation:
        asked["one_conversation"] = True
    corrections = stream(arguments)
    choices = arc_challenge(Path(arguments.arc), ARC_QUESTIONS) if arguments.arc else []
    with contextlib.ExitStack() as stack:
        out = Path(arguments.out or stack.enter_context(tempfile.TemporaryDirectory()))
        saved, data = out / "checkpoint", out / "data"
        progress = resumed(saved, data, asked)
        settings = study_settings(arguments, data)
        app = open_services(settings, start_jobs=False)
        study = Study(app, corrections, Probe(app, unrelated_questions(), choices), progress)
        try:
            if not arguments.baselines_only:
                app.learning.prepare()
            if arguments.one_conversation:
                study.stay_in_one_conversation()
            while not arguments.baselines_only and study.goes_on(arguments.corrections):
                before = len(progress.taught)
                study.meet()
                if len(progress.taught) > before and len(progress.taught) % CHECKPOINT_EVERY == 0:
                    study.checkpoint()
                    if arguments.out:  # no job runs, so nothing writes to the folder while it is copied
                        save_checkpoint(saved, data, "progress.json", {**dataclasses.asdict(progress), "asked": asked})
            figures = asked if arguments.baselines_only else {**asked, **study.figures()}
            if arguments.left_alone:
                figures["left_alone"] = study.leave_alone()
            if arguments.baselines:
                taught = study.wrong_at_first(arguments.corrections) if arguments.baselines_only else study.taught
                figures["baselines"] = real_baselines.measure(
                    arguments.baselines.split(","), settings, taught, study.probe
                )
        finally:
            app.close()
        if arguments.out:
            name = "baselines.json" if arguments.baselines_only else "figures.json"
            (out / name).write_text(json.dumps(figures, indent=1))
        return figures


def resumed(saved: Path, data: Path, asked: dict[str, Any]) -> Progress:
    """The progress of an earlier sitting, with its data folder put in place; a new one where there is none."""
    shutil.rmtree(data, ignore_errors=True)
    if not (saved / "progress.json").exists():
        return Progress()
    kept = json.loads((saved / "progress.json").read_text())
    if kept.pop("asked") != asked:
        raise SystemExit(f"{saved.parent} holds a study with other settings; name another folder with --out")
    shutil.copytree(saved / "data", data)
    return Progress(**kept)


def main() -> None:
    parser = study_parser(__doc__)
    parser.add_argument("--data", default="", metavar="FILE", help="QAEdit's records (default: the personal facts)")
    parser.add_argument("--arc", default="", metavar="FILE", help="ARC-Challenge questions, for task_drop")
    parser.add_argument("--corrections", type=int, default=20)
    parser.add_argument(
        "--baselines", default="", metavar="NAMES", help=f"any of {','.join(real_baselines.NAMES)}, on the same stream"
    )
    parser.add_argument("--baselines-only", action="store_true", help="measure these alone")
    parser.add_argument(
        "--left-alone", action="store_true", help="measure again after the background jobs have trained what was lost"
    )
    parser.add_argument("--one-conversation", action="store_true", help="say and ask everything in one conversation")
    arguments = parser.parse_args()
    if unknown := set(filter(None, arguments.baselines.split(","))) - set(real_baselines.NAMES):
        parser.error(f"unknown baselines: {', '.join(sorted(unknown))}")
    if arguments.left_alone and arguments.baselines_only:
        parser.error("--left-alone measures what was taught, and --baselines-only teaches nothing")
    figures = run(arguments)
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
