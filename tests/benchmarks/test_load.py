"""The load benchmark at a small size: the real app, a few users for a few seconds, a hundred votes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import load
from benchmarks.load_users import Ledger
from feedback_store import Store


def figures(*flags: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", "--threads", "1", "--json", *flags],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_a_few_users_at_once_meet_no_error_and_lose_no_word() -> None:
    found = figures("--users", "4", "--minutes", "0.2")
    assert (found["errors"], found["errors_seen"]) == (0, [])
    assert found["requests"] >= 8 and found["first_text_seconds"]["count"] >= 4
    assert found["votes_stored"] == found["votes_acknowledged"] >= 1
    assert found["words_lost"] == found["votes_never_cast"] == 0
    assert found["worst_wait_over_median"] >= 1 and len(found["memory_mib_samples"]) >= 4
    assert found["longest_waits"][0][1] == found["first_text_seconds"]["worst"]
    assert all(0 <= second < 60 for second, _ in found["longest_waits"])
    assert found["slowest_writes"][0][1] == found["plain_write_seconds"]["worst"] > 0


@pytest.mark.slow
def test_every_vote_of_a_burst_is_stored_once_with_its_value() -> None:
    found = figures("--part", "votes", "--users", "3", "--votes", "120", "--rate", "3000")
    assert (found["errors"], found["errors_seen"]) == (0, [])
    assert found["votes_stored"] == found["votes_acknowledged"] == found["vote_seconds"]["count"] == 120
    assert found["words_lost"] == found["votes_never_cast"] == 0


def test_what_is_missing_or_changed_in_the_database_is_seen(tmp_path: Path) -> None:
    ledger = Ledger()
    with Store(tmp_path / "db") as store:
        conversation = store.create_conversation()
        question = store.add_message(conversation.id, "user", "What is an owl?")
        replies = [
            store.add_message(conversation.id, "assistant", text, parent_id=question.id).id for text in ("a", "b", "c")
        ]
        for reply in replies:
            store.set_vote(reply, 1)
        store.add_hint(replies[0], "a bird")
        ledger.votes = {replies[0]: 1, replies[1]: -1, "gone": 1}
        ledger.hints = [(replies[0], "a bird"), (replies[0], "it flies")]
    found = load.stored(tmp_path / "db", ledger)
    assert (found["votes_acknowledged"], found["votes_stored"], found["votes_never_cast"]) == (3, 1, 1)
    assert (found["hints_acknowledged"], found["hints_stored"], found["words_lost"]) == (2, 1, 3)


def test_growth_is_measured_after_the_warm_up_and_a_spike_is_no_growth() -> None:
    warm_up = [(5.0 * i, 100.0 + 80 * i) for i in range(20)]
    flat = [(100.0 + 5.0 * i, 2000.0) for i in range(81)]
    spiked = [(t, 2600.0 if i % 10 == 0 else m) for i, (t, m) in enumerate(flat)]
    leaking = [(t, m + t - 100) for t, m in flat]  # 400 MiB on 2000: 20 %
    assert load.growth_percent([*warm_up, *flat]) == load.growth_percent([*warm_up, *spiked]) == 0
    assert load.growth_percent([*warm_up, *leaking]) == pytest.approx(20)
