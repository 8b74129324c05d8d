"""Several folders of one run: copies, of which one went on, and pieces that were recorded apart."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.sync.test_sync import assert_all_there, console, finish_sync, record, row_of, start_sync, sync
from tests.wandb_server import WandbServer


def verdicts(printed: str) -> list[str]:
    return sorted(line.split()[-1] for line in printed.splitlines() if line.startswith("r1 "))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A killed run in `a`; a copy of it in `b`, where it went on to its end."""
    record(tmp_path / "a", "r1", 0, 30, "--pause", "0.05", "--end", "kill")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    time.sleep(1.1)
    record(tmp_path / "b", "r1", 30, 50)
    return tmp_path


def assert_one_run(server: WandbServer, home: Path) -> None:
    assert_all_there(server, home / "b", "r1")
    run = server.state.run("r1")
    assert (run.state, run.exit_code, run.summary["final/status"]) == ("finished", 0, "finished")
    assert console(server, "r1")[-20:] == [f"step {number}" for number in range(30, 50)]


def test_only_the_copy_that_went_on_is_sent(wandb_server: WandbServer, copied: Path) -> None:
    printed = sync(wandb_server, copied)
    assert verdicts(printed) == ["complete", "superseded"]
    assert f"a copy of it went on in '{copied / 'b' / 'trackkit-runs' / 'r1'}'" in printed
    assert "in this one only" not in printed
    assert_one_run(wandb_server, copied)
    assert "every run of the index is on the server" in sync(wandb_server, copied)
    assert verdicts(sync(wandb_server, copied, "r1")) == ["superseded", "unchanged"]
    assert_one_run(wandb_server, copied)


def test_a_stale_copy_that_is_synced_later_changes_nothing(wandb_server: WandbServer, copied: Path) -> None:
    sync(wandb_server, copied, copied / "b")
    printed = sync(wandb_server, copied, copied / "a")
    assert row_of(printed, "r1")[-1] == "superseded"
    assert "uploading" not in printed
    assert_one_run(wandb_server, copied)
    assert row_of(sync(wandb_server, copied, copied / "a"), "r1")[-1] == "unchanged"


def test_a_copy_that_was_synced_before_the_run_went_on(wandb_server: WandbServer, copied: Path) -> None:
    sync(wandb_server, copied, copied / "a")
    assert wandb_server.state.run("r1").state == "failed"
    assert row_of(sync(wandb_server, copied, copied / "b"), "r1")[-1] == "complete"
    assert_one_run(wandb_server, copied)


def test_rows_of_the_other_copy_are_counted(wandb_server: WandbServer, copied: Path) -> None:
    time.sleep(1.1)
    record(copied / "a", "r1", 30, 35)
    assert "5 rows are in this one only, and stay here" in sync(wandb_server, copied)
    assert_one_run(wandb_server, copied)


def test_pieces_that_were_recorded_apart(wandb_server: WandbServer, tmp_path: Path) -> None:
    """As where only the checkpoint was moved: neither folder has what the other has."""
    # W&B writes what run it is a second after the beginning.
    record(tmp_path / "first", "r1", 0, 20, "--pause", "0.1", "--end", "kill")
    time.sleep(1.1)
    record(tmp_path / "second", "r1", 20, 40)
    record(tmp_path / "other", "r2", 0, 5)
    assert verdicts(sync(wandb_server, tmp_path, tmp_path / "second", tmp_path / "first", "r2")) == ["complete"] * 2
    rows = [row["batch/step"] for row in wandb_server.state.run("r1").history if "batch/loss" in row]
    assert rows == list(range(40))
    assert wandb_server.state.run("r1").state == "finished"


def test_two_syncs_of_two_copies_at_once(wandb_server: WandbServer, tmp_path: Path) -> None:
    """Each folder has a lock of its own: it is the user's that keeps the second out."""
    record(tmp_path / "a", "r1", 0, 20)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    wandb_server.faults.set("hang", only="upload")
    first = start_sync(wandb_server, tmp_path, tmp_path / "a")
    try:
        wandb_server.state.wait_for(lambda state: state.runs and state.run("r1").history)
        assert "being synced by another process" in sync(wandb_server, tmp_path, tmp_path / "b", code=1)
        wandb_server.faults.clear()
        finish_sync(first, 0)
    finally:
        first.kill()
    assert_all_there(wandb_server, tmp_path / "a", "r1")
    assert list((Path(os.environ["TRACKKIT_INDEX"]).parent / "trackkit-sync").glob("*.lock")) == []
