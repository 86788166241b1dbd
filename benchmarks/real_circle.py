"""Three peers with a real language model teach each other what they were corrected about, over loopback.

`python -m benchmarks.real_circle --model smollm2 --facts 10 --syncs 6 --methods fedavg exact --out FOLDER [--json]`

Each peer is a process with the application's services (benchmarks.real_circle_peer). A simulated person corrects each
about other facts of data/personal_facts.json; then all sync in turn, again and again, once for each aggregation, from the
same corrected data folders. After each sync every peer is asked (docs/METRICS.md): `own` and `peers` are learned_rephrase
of its own facts and of the others', mean over the peers; `worst_peers`, `neighbour_leak` and `answers_changed` are the
worst peer's; `seconds` are the mean of a sync, `bytes` what all peers served during it. Everything is kept in --out: a study that
was killed goes on after the last whole sync.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.real_circle_peer import answer_questions
from benchmarks.report import add_common_flags, print_table
from federation.aggregation_plan import METHODS
from services.models.built_in import model_folder

CLOSING_SECONDS = 60.0
MET_FOR_EACH_TAUGHT = 2  # facts met for each one taught, at most: what is answered right needs no correction
BARS = {"own": 0.85, "peers": 0.6, "neighbour_leak": 0.15, "answers_changed": 0.2}
AT_LEAST = ("own", "peers")
CORRECTED, SYNCED, LIVE, STATE = "corrected", "synced", "live", "state.json"


class PeerProcess:
    """One peer, and the questions that it answers."""

    def __init__(self, model: str, folder: Path, number: int, method: str, arguments: argparse.Namespace) -> None:
        context: Any = multiprocessing.get_context("forkserver")  # the libraries are imported once for all peers
        context.set_forkserver_preload(["benchmarks.real_circle_peer"])
        self._connection, theirs = context.Pipe()
        said = {"model": model, "folder": str(folder), "number": number, "method": method}
        said |= {"share_questions": arguments.share_questions, "unrelated": arguments.unrelated}
        said["threads"] = arguments.threads or 1
        log = folder.with_name(f"{folder.name}.log")
        self._process = context.Process(target=answer_questions, args=(theirs, log, said), daemon=True)
        self._process.start()
        theirs.close()
        self._heard()

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Raises RuntimeError where the peer has ended."""
        with suppress(BrokenPipeError):  # what it said last, or that it has ended, is heard below
            self._connection.send_bytes(json.dumps({"do": do, **what}).encode())
        return self._heard()

    def _heard(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._connection.recv_bytes()))
        except (EOFError, ConnectionResetError) as e:
            raise RuntimeError("a peer ended; its log is beside its data folder in --out") from e

    def close(self) -> None:
        with suppress(RuntimeError):
            self.ask("close")
        self._process.join(CLOSING_SECONDS)
        self._process.kill()
        self._process.join()
        self._connection.close()


@contextmanager
def running(
    model: str, folder: Path, numbers: Sequence[int], method: str, arguments: argparse.Namespace
) -> Iterator[list[PeerProcess]]:
    with ExitStack() as stack:
        peers = []
        for number in numbers:
            peer = PeerProcess(model, folder / f"peer{number}", number, method, arguments)
            stack.callback(peer.close)
            peers.append(peer)
        yield peers


def correct_all(model: str, out: Path, arguments: argparse.Namespace) -> list[list[int]]:
    """Every peer's corrected data folder under `out`/corrected. Returns the places of the facts that each was taught."""
    taught = []
    for number in range(arguments.peers):
        folder = out / CORRECTED
        kept = folder / f"peer{number}.json"
        if not kept.exists():
            shutil.rmtree(folder / f"peer{number}", ignore_errors=True)
            (folder / f"peer{number}").mkdir(parents=True)
            met = arguments.facts * MET_FOR_EACH_TAUGHT
            with running(model, folder, [number], "fedavg", arguments) as (peer,):
                done = peer.ask("teach", first=number * met, count=arguments.facts, most=met, seed=arguments.seed)
            kept.write_text(json.dumps(done))
        taught.append(json.loads(kept.read_text())["taught"])
        print(f"peer {number} was corrected about {len(taught[-1])} facts", file=sys.stderr, flush=True)
    return taught


def spread(model: str, out: Path, method: str, taught: list[list[int]], arguments: argparse.Namespace) -> list[Any]:
    """Figures before the first sync and after each one; goes on from the last that was kept."""
    folder, kept = out / method / LIVE, out / method / SYNCED
    shutil.rmtree(folder, ignore_errors=True)
    found: list[dict[str, Any]] = json.loads((kept / STATE).read_text()) if (kept / STATE).exists() else []
    if len(found) > arguments.syncs:
        return found
    shutil.copytree(kept if found else out / CORRECTED, folder)
    with running(model, folder, range(len(taught)), method, arguments) as peers:
        addresses = [peer.ask("serve")["address"] for peer in peers]
        for i, peer in enumerate(peers):
            peer.ask("meet", addresses=[a for j, a in enumerate(addresses) if j != i])
        while len(found) <= arguments.syncs:
            syncs = [peer.ask("sync") for peer in peers] if found else []
            found.append({"sync": len(found), **_figures(peers, taught, syncs, arguments.seed)})
            print(method, found[-1], file=sys.stderr, flush=True)
            _keep(folder, kept, found)
    return found


def _figures(
    peers: Sequence[PeerProcess], taught: list[list[int]], syncs: Sequence[dict[str, Any]], seed: int
) -> dict[str, Any]:
    served = [peer.ask("take_bytes")["bytes"] for peer in peers]
    measured = [
        peer.ask("measure", own=taught[i], others=[f for j, of in enumerate(taught) if j != i for f in of], seed=seed)
        for i, peer in enumerate(peers)
    ]
    return {
        "own": mean(m["own"] for m in measured),
        "peers": mean(m["peers"] for m in measured),
        "worst_peers": min(m["peers"] for m in measured),
        "neighbour_leak": max(m["neighbour_leak"] for m in measured),
        "answers_changed": max(m["answers_changed"] for m in measured),
        "merged": sum(s["merged"] is True for s in syncs),
        "refused": sum(s["merged"] is False for s in syncs),
        "words": [s["words"] for s in syncs],
        "seconds": mean(s["seconds"] for s in syncs) if syncs else 0.0,
        "processor_seconds": mean(s["processor_seconds"] for s in syncs) if syncs else 0.0,
        "bytes": sum(served),
        "update_bytes": max((s["update_bytes"] for s in syncs), default=0),
    }


def _keep(folder: Path, kept: Path, found: list[dict[str, Any]]) -> None:
    """The data folders with the figures so far, whole or not at all. The peers are idle."""
    temporary = kept.with_name("synced.new")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(folder, temporary)
    (temporary / STATE).write_text(json.dumps(found))
    shutil.rmtree(kept, ignore_errors=True)
    temporary.rename(kept)


def syncs_needed(found: Sequence[dict[str, Any]]) -> int | None:
    """The first sync after which every bar holds; None where it never did."""
    return next((f["sync"] for f in found if holds(f)), None)


def holds(figures: dict[str, Any]) -> bool:
    return all(figures[n] >= bar if n in AT_LEAST else figures[n] <= bar for n, bar in BARS.items())


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    out = Path(arguments.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    asked = {"model": arguments.model, "facts": arguments.facts, "peers": arguments.peers, "seed": arguments.seed}
    asked |= {"unrelated": arguments.unrelated, "share_questions": arguments.share_questions}
    settings = out / "asked.json"
    if settings.exists() and {"share_questions": False, **json.loads(settings.read_text())} != asked:
        raise SystemExit(f"{out} holds a study with other settings; name another folder with --out")
    settings.write_text(json.dumps(asked))
    model = model_folder(arguments.model, out)
    taught = correct_all(model, out, arguments)
    results = {method: spread(model, out, method, taught, arguments) for method in arguments.methods}
    figures = {
        **asked,
        "taught": [len(of) for of in taught],
        "syncs_needed": {method: syncs_needed(found) for method, found in results.items()},
        "by_method": results,
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--facts", type=int, default=10, help="that each peer is corrected about")
    parser.add_argument("--syncs", type=int, default=6)
    parser.add_argument("--unrelated", type=int, default=120, help="questions for answers_changed (default: all, 120)")
    parser.add_argument("--methods", nargs="+", default=["fedavg"], choices=METHODS)
    parser.add_argument(
        "--share-questions",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="send the taught questions with the adapters",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="data folders, figures, and where to go on")
    arguments = parser.parse_args()
    figures = run(arguments)
    if arguments.json:
        print(json.dumps(figures))
        return
    shown = ("own", "peers", "worst_peers", "neighbour_leak", "answers_changed", "refused", "seconds", "bytes")
    print_table(
        ["aggregation", "sync", *shown],
        [
            [method, str(f["sync"]), *(f"{f[n]:.2f}" if isinstance(f[n], float) else str(f[n]) for n in shown)]
            for method, found in figures["by_method"].items()
            for f in found
        ],
    )
    print("syncs until every bar holds:", figures["syncs_needed"])


if __name__ == "__main__":
    main()
