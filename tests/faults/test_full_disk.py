"""A disk without room: one clear sentence, nothing half-written, and all goes on once there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback_store import StoreError, StoreUnavailable
from services.app import AppServices
from services.data import backups
from spear_core.errors import SpearError
from tests.faults.mounts import contents, fill, mounted, one_sentence
from tests.faults.quick import open_quick, teach
from tests.services.harness import ask

QUESTION, ANSWER = "What is an owl?", "a bird"
SMALL_DISK = "size=8m"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", SMALL_DISK, "tmpfs") as small:
        yield small


@pytest.fixture
def taught(disk: Path, tmp_path: Path) -> Iterator[AppServices]:
    """A bench on a small disk that has learned one thing."""
    app = open_quick(disk / "data", lora_rank=64)  # an adapter that is larger than what a round writes of rows
    teach(app, QUESTION, ANSWER)
    app.learning.run_pending()
    assert ask(app, QUESTION).text == ANSWER
    yield app
    app.close()


def test_on_a_full_disk_a_vote_is_refused_whole_and_the_adapter_goes_on_serving(
    taught: AppServices, disk: Path
) -> None:
    replies = [ask(taught, "What is a violin?") for _ in range(3)]
    ballast = fill(disk)
    refused = None
    for turn in range(2000):  # the log has a little room left at first
        reply, up = replies[turn % 3], turn % 2 == 0
        before = stored(taught, reply.id)
        try:
            (taught.feedback.like if up else taught.feedback.dislike)(reply.id)
        except StoreUnavailable as e:
            refused = e
            break
    assert refused and "free some disk space" in one_sentence(refused)
    assert stored(taught, reply.id) == before, "neither vote nor traces of it"
    with pytest.raises(StoreUnavailable, match="free some disk space") as caught:
        ask(taught, "What is a harp?")
    one_sentence(caught.value)
    assert taught.engine.shared_models.serving.version == taught.learning.lineage.version == 1
    ballast.unlink()
    assert ask(taught, QUESTION).text == ANSWER
    taught.feedback.like(reply.id)
    assert stored(taught, reply.id) == (1, ["win"])


def stored(app: AppServices, reply_id: str) -> tuple[int, list[str]]:
    store = app.engine.store
    traces = store.traces(subject_id=reply_id)
    return store.vote(reply_id), [t.side for t in traces if t.status != "withdrawn"]


@pytest.mark.slow
def test_an_adapter_that_finds_no_room_leaves_the_correction_waiting_and_is_learned_later(
    taught: AppServices, disk: Path
) -> None:
    before = contents(taught.engine.data_folder / "adapters")
    teach(taught, "What is a violin?", "an instrument")
    ballast = fill(disk, leave_bytes=300_000)  # enough for rows, too little for an adapter
    taught.learning.run_pending()
    status = taught.learning.status()
    assert status.phase == "failed" and status.adapter_version == 1 and status.pending_wins == 1
    assert "No space left on device" in status.detail and "tried again" in status.detail and "\n" not in status.detail
    assert contents(taught.engine.data_folder / "adapters") == before, "nothing overwritten, nothing half-written"
    assert [r.status for r in taught.engine.store.rounds(taught.engine.base)] == ["interrupted", "promoted"]
    assert taught.learning.run_pending() == 0, "not over and over"
    ballast.unlink()
    taught.learning.resume()
    taught.learning.run_pending()
    assert taught.learning.status().phase == "live" and ask(taught, "What is a violin?").text == "an instrument"


@pytest.mark.slow
def test_a_round_whose_end_cannot_be_written_is_released_once_there_is_room(taught: AppServices, disk: Path) -> None:
    teach(taught, "What is a violin?", "an instrument")
    ballasts: list[Path] = []

    def fill_up(progress: object) -> None:
        if not ballasts:
            ballasts.append(fill(disk))
            store = taught.engine.store
            with pytest.raises(StoreUnavailable):  # use up the room that is left in the log
                for i in range(10_000):
                    store.set_setting("filler", "x" * 4000 + str(i))

    taught.learning._on_step = fill_up  # type: ignore[method-assign]
    taught.learning.run_pending()
    assert taught.learning.status().phase == "failed" and taught.engine.shared_models.serving.version == 1
    ballasts[0].unlink()
    taught.learning.resume()
    taught.learning.run_pending()
    assert taught.learning.status().phase == "live"
    assert ask(taught, "What is a violin?").text == "an instrument"
    assert not taught.engine.store.traces(status="claimed")


def test_a_backup_that_finds_no_room_says_so_and_leaves_the_last_one(taught: AppServices, disk: Path) -> None:
    store, folder = taught.engine.store, taught.engine.data_folder
    good = backups.back_up(store, folder)
    whole = good.read_bytes()
    fill(disk, leave_bytes=60_000)
    with pytest.raises((SpearError, StoreError)) as caught:
        backups.back_up(store, folder)
    assert "cannot be written" in one_sentence(caught.value)
    assert backups.backups(folder) == [good] and good.read_bytes() == whole
    assert [p.name for p in good.parent.iterdir()] == [good.name]


def test_a_start_on_a_full_disk_is_one_sentence_and_the_next_one_finds_everything(
    taught: AppServices, disk: Path
) -> None:
    data = taught.engine.data_folder
    taught.close()
    before = contents(data)
    ballast = fill(disk)
    with pytest.raises((SpearError, StoreError)) as caught:
        open_quick(data, lora_rank=64)
    one_sentence(caught.value)
    ballast.unlink()
    after = contents(data)
    assert {name: after[name] for name in before} == before
    app = open_quick(data, lora_rank=64)
    assert ask(app, QUESTION).text == ANSWER
    app.close()
