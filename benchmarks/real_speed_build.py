"""One build of the app as a process that does what it is told, line by line: for benchmarks that compare two builds.

Run with another revision's folder as the working directory, it uses that revision's packages; so it takes only what all
revisions since f0ce84f have. Each line on standard input is a JSON object, and so is each answer.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))

LONG = "Tell me a long story about a fox who learns to sail. Describe every place that it comes to."
FILLER = "The ship had a red sail, a small cabin with two beds, and a bell that rang when the wind changed. "
THINGS = ("box", "shelf", "drawer", "locker", "room", "folder", "bench", "cart")
COLOURS = ("blue", "green", "yellow", "grey", "white", "brown", "black", "purple")


def open_app(model: str, folder: Path, threads: int, seed: int) -> Any:
    try:
        from services.app import open_services
    except ImportError:  # before the services had subjects
        from services.workbench import open_workbench as open_services  # type: ignore[no-redef]
    from services.settings import Settings

    settings = Settings(model=model, data_folder=folder, threads=threads, seed=seed)
    return open_services(settings, start_jobs=False)


def import_services() -> int:
    """Private bytes once all libraries are imported and no model is loaded."""
    from benchmarks.peak import private_bytes

    with contextlib.suppress(ImportError):
        import services.app
    with contextlib.suppress(ImportError):
        import services.workbench  # noqa: F401
    return private_bytes("cpu")


def in_thread(work: Callable[[], object]) -> None:
    """Do it as the app's scheduler does, in a thread that ends: torch's own threads end with it. Raises what it raises."""
    with ThreadPoolExecutor(1) as alone:
        alone.submit(work).result()


def no_figures() -> Any:
    """Those of an adapter that was not measured."""
    try:
        from feedback_store import RoundFigures
    except ImportError:  # before figures had a type
        return {}
    return RoundFigures()


def figure(figures: Any, name: str) -> Any:
    """One figure of a round."""
    return figures.get(name) if isinstance(figures, dict) else getattr(figures, name)


class Build:
    """The app of the working directory, and what can be measured of it."""

    def __init__(self, model: str, folder: Path, threads: int, seed: int) -> None:
        self.library_bytes = import_services()
        self.app = open_app(model, folder, threads, seed)
        self.engine = self.app.engine
        old = hasattr(self.engine, "twins")
        self.models = self.engine.twins if old else self.engine.shared_models
        self.priority = self.engine.pace if old else self.engine.priority
        self.tokenizer = self.engine.loaded.tokenizer
        self._facts = random.Random(seed).sample(list(itertools.product(range(10, 100), THINGS)), 400)
        self._stop = threading.Event()
        self._training: threading.Thread | None = None
        self.rounds = 0

    def adopt(self) -> dict[str, Any]:
        """Let an adapter serve that answers every question, also those that nothing was taught for."""
        with self.app.learning.between_rounds():
            self.app.learning.lineage.adopt(self.models.initial, no_figures())
        return {"adopted": True}

    def conversation(self, tokens: int) -> str:
        """A new conversation with a history of about so many tokens; its last reply is the app's own."""
        created = self.app.chat.new_conversation(learn=False).id
        if tokens:
            store = self.engine.store
            text = FILLER * 60
            question = store.add_message(created, "user", "Tell me about the ship.")
            length = len(self.tokenizer.encode(text, add_special_tokens=False))
            text = text[: int(len(text) * max(0, tokens - 60) / length)]
            reply = store.add_message(created, "assistant", text, parent_id=question.id)
            store.set_leaf(created, reply.id)
            self.reply(conversation=created, question="Who sails the ship?", new_tokens=16)
        return str(created)

    def conversation_id(self, tokens: int) -> dict[str, Any]:
        return {"id": self.conversation(tokens)}

    def reply(self, question: str = LONG, new_tokens: int = 150, conversation: str | None = None) -> dict[str, Any]:
        """One reply, through the chat service: seconds to its first text, and tokens a second after that."""
        chat = self.app.chat
        used = conversation or chat.new_conversation(learn=False).id
        sampling = type(chat.sampling(used))(max_new_tokens=new_tokens)
        chat.set_sampling(used, sampling)
        asked = time.perf_counter()
        came: list[float] = []
        used_cpu = 0.0
        text = ""
        for view in chat.reply(used, question):
            if view.text and view.text != text:
                came.append(time.perf_counter())
                used_cpu = used_cpu or time.process_time()
                text = view.text
        used_cpu = time.process_time() - used_cpu
        tokens = len(self.tokenizer.encode(text, add_special_tokens=False))
        return {
            "tokens": tokens,
            "first_seconds": came[0] - asked,
            "seconds": came[-1] - asked,
            "decode_tokens_per_second": (tokens - 1) / max(1e-9, came[-1] - came[0]),
            "decode_cpu_ms_per_token": 1000 * used_cpu / max(1, tokens - 1),
        }

    def many(self, count: int, new_tokens: int) -> dict[str, Any]:
        """So many replies asked for at once, in a conversation each: tokens a second in all."""
        made: list[dict[str, Any]] = []
        questions = [
            f"{LONG} The fox's name is {name}." for name in ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal")
        ]
        threads = [
            threading.Thread(target=lambda q=questions[i % 8]: made.append(self.reply(q, new_tokens)))
            for i in range(count)
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        return {"tokens": sum(m["tokens"] for m in made), "seconds": seconds}

    def prepare(self) -> dict[str, Any]:
        """What the app does in the background once a reply was rejected; builds before 29 November 2026 did it after the start."""
        in_thread(self.app.learning.prepare)
        return {"prepared": True}

    def correct(self, number: int) -> dict[str, Any]:
        """One correction, the same for the same number: seconds from its confirmation to the first reply by the new adapter.

        A revision with a hint is confirmed where it has the right word, and the answer written by hand where it has not. The
        reply is asked for at once; its first text counts.
        """
        place, thing = 10 + number, THINGS[number % len(THINGS)]
        question, colour = f"What colour is {thing} {place}?", COLOURS[number % len(COLOURS)]
        reply = self._stored(question)
        revision = list(self.app.chat.revise(reply, f"it is {colour}"))[-1]
        self.app.learning.run_pending()  # as the scheduler does while the person reads the revision
        before = self.app.learning.status().adapter_version
        confirmed = time.perf_counter()
        if colour in revision.text.lower():
            self.app.feedback.better(revision.id)
        else:
            self.app.feedback.edit(reply, f"{thing.capitalize()} {place} is {colour}.")
        in_thread(self.app.learning.run_pending)
        trained = time.perf_counter()
        said = self.reply(question, new_tokens=16)
        status = self.app.learning.status()
        last = self.engine.store.last_round(self.engine.base)
        return {
            "seconds_to_live": trained - confirmed + said["first_seconds"],
            "is_kept": status.adapter_version > before,
            "steps": figure(last.figures, "steps"),
            "attempts": figure(last.figures, "attempts"),
        }

    def _stored(self, question: str) -> str:
        """A question and a reply that is to be corrected; the id of the reply."""
        store = self.engine.store
        conversation = self.app.chat.new_conversation()
        asked = store.add_message(conversation.id, "user", question)
        return str(store.add_message(conversation.id, "assistant", "I do not know.", parent_id=asked.id).id)

    def train(self, on: bool) -> dict[str, Any]:
        """Begin rounds in a thread of their own, one correction each, or end them after the one under way."""
        if on:
            self._stop.clear()
            self._training = threading.Thread(target=self.priority.job(self._learn))
            self._training.start()
        elif self._training is not None:
            self._stop.set()
            self._training.join()
        done, self.rounds = self.rounds, 0
        return {"rounds": done}

    def _learn(self) -> None:
        while not self._stop.is_set():
            number, thing = self._facts.pop()
            reply = self._stored(f"What colour is {thing} {number}?")
            colour = COLOURS[number % len(COLOURS)]
            self.app.feedback.edit(reply, f"{thing.capitalize()} {number} is {colour}.")
            self.app.learning.run_pending()
            self.rounds += 1

    def memory(self) -> dict[str, Any]:
        from benchmarks.peak import private_bytes

        parameters = self.engine.loaded.model.parameters()
        return {
            "private_bytes": private_bytes("cpu"),
            "library_bytes": self.library_bytes,
            "weight_bytes": sum(p.numel() * p.element_size() for p in parameters),
            "peak_bytes": _peak_bytes(),
        }


def _peak_bytes() -> int:
    """The most memory that was resident at any time, shared libraries included."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    given = json.loads(sys.argv[1])
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is not an answer
    os.nice(given.get("nice", 0))
    with tempfile.TemporaryDirectory() as folder:
        build = Build(given["model"], Path(folder), given["threads"], given["seed"])
        print(json.dumps({"ready": True}), file=out, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            answer = getattr(build, asked.pop("do"))(**asked)
            print(json.dumps(answer), file=out, flush=True)
        build.train(False)
        build.app.close()


if __name__ == "__main__":
    main()
