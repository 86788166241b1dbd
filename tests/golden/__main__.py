"""`python -m tests.golden DIR`: differences to the recorded figures, case by case; exit code 1 where one is too large."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.golden.parity import run_folder


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data")
    if not (folder / "cases.json").is_file():
        print(f"{folder} holds no cases.json", file=sys.stderr)
        return 2
    outcomes = run_folder(folder)
    for o in outcomes:
        traces = f"wins {o.wins_differ} differ, losing {o.loses_differ} differ, skipping {'differs' if o.skipped_differs else 'same'}"
        losses = f"win loss {o.win_loss:.1e}, lose loss {o.lose_loss:.1e} (relative), adapter {o.adapter:.1e}"
        print(f"{o.name}: {traces}, {losses}: {'ok' if o.passed else 'TOO FAR'}")
    return 0 if all(o.passed for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
