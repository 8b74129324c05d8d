"""`trackkit sync` of runs whose W&B files are damaged, out of order, or deleted."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.support.syncing import assert_all_there, console, record, row_of, start_recorder, sync, wait_for, wandb_files
from tests.wandb_server import WandbServer
from tests.wandb_server.client import kill
from trackkit import read_run
from trackkit.integrations.wandb.blocks import BLOCK, Reader, Writer
from trackkit.integrations.wandb.files import find_files, parse, read_history, read_run_file
from trackkit.sync.gather import gather
from trackkit.sync.targets import find_targets

pytestmark = pytest.mark.timeout(240)


def batch_steps(server: WandbServer) -> list[int]:
    return [row["batch/step"] for row in server.state.run("r1").history if "batch/loss" in row]


def set_settings(root: Path, **settings: str) -> None:
    """Changes the settings that TrackKit has recorded for run `r1`."""
    path = root / "_trackkit" / "r1" / "config.json"
    named = {f"trackkit/settings/{key}": value for key, value in settings.items()}
    path.write_text(json.dumps({**json.loads(path.read_text()), **named}))


def test_attempts_of_two_time_zones_are_in_order(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of W&B's folders hold the local time."""
    root = tmp_path / "out"
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    record(root, "r1", 0, 25, "--pause", "0.04", "--end", "kill")
    time.sleep(1.1)
    monkeypatch.setenv("TZ", "UTC")
    record(root, "r1", 25, 40)
    assert [next(read_history(path))["batch/step"] for path in wandb_files(root)] == [25, 0]
    assert [next(read_history(path))["batch/step"] for path in find_files(root, "r1")] == [0, 25]
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    assert batch_steps(wandb_server) == list(range(40))
    run = wandb_server.state.run("r1")
    assert (run.state, run.summary["final/steps"], run.summary["epoch/val/acc"]) == ("finished", 40, 0.39)


def test_attempts_are_in_order_though_the_clock_was_set_back(tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 5)
    time.sleep(1.1)
    record(root, "r1", 5, 10)
    late = find_files(root, "r1")[1]
    records = [parse(data) for data in Reader(late).new()]
    writer = Writer(late)
    for each in records:
        if each.WhichOneof("record_type") == "run":
            each.run.start_time.seconds -= 3600
        writer.add(each.SerializeToString())
    writer.close()
    assert find_files(root, "r1")[0] == late
    (target,) = find_targets([str(root)])
    source = gather(target)
    assert [file.rows[0].values["batch/step"] for file in source.files] == [0, 5]
    assert [row.values["batch/step"] for row in source.rows if "batch/loss" in row.values][::2] == list(range(10))


@pytest.mark.parametrize("end", ["ok", "kill"])
def test_run_without_wandb_files_is_sent_from_the_log(wandb_server: WandbServer, tmp_path: Path, end: str) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 25, "--end", end)
    set_settings(root, project="q", entity="team-b", group="g")
    shutil.rmtree(root / "_trackkit" / "wandb")
    printed = sync(wandb_server, tmp_path, root)
    assert "uploading 27 rows, summary, config, end" in printed
    assert row_of(printed, "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    run = wandb_server.state.run("r1")
    assert (run.entity, run.project, run.display_name, run.group) == ("team-b", "q", "a run", "g")
    assert run.state == ("finished" if end == "ok" else "failed")
    assert "batch/loss" not in run.summary
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "unchanged"


def test_running_run_without_wandb_files_is_left_alone(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    process = start_recorder(root, "r1", 0, 5, "--wait")
    try:
        wait_for(lambda: len(wandb_files(root)) == 1 and len(read_run(root).history) == 5)
        shutil.rmtree(root / "_trackkit" / "wandb")
        assert row_of(sync(wandb_server, tmp_path, root, "--watch"), "r1")[-1] == "running"
        assert wandb_server.state.runs == {}
    finally:
        kill(process)


def test_rows_lost_from_a_damaged_file_land_at_their_steps(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 300)
    path = wandb_files(root)[0]
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)
    assert len(read_run_file(path).rows) < 290
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    assert batch_steps(wandb_server) == list(range(300))
    assert "batch/loss" not in wandb_server.state.run("r1").summary


def test_file_without_its_run_record_is_sent(wandb_server: WandbServer, tmp_path: Path) -> None:
    """The local log knows what run it is, and the file still has the console's lines."""
    root = tmp_path / "out"
    record(root, "r1", 0, 400)
    set_settings(root, project="p", entity="team-b")
    path = wandb_files(root)[0]
    data = bytearray(path.read_bytes())
    assert len(data) > 2 * BLOCK
    data[7:2000] = bytes(1993)
    path.write_bytes(data)
    assert read_run_file(path).rows
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert console(wandb_server, "r1")[-1] == "step 399"
    assert_all_there(wandb_server, root, "r1")
    assert wandb_server.state.run("r1").entity == "team-b"


def test_killed_run_of_a_team_goes_to_that_team(wandb_server: WandbServer, tmp_path: Path) -> None:
    """After a kill before W&B's first flush only the local log names the entity."""
    root = tmp_path / "out"
    record(root, "r1", 0, 12, "--end", "kill")
    set_settings(root, project="p", entity="team-b")
    path = wandb_files(root)[0]
    path.write_bytes(path.read_bytes()[:7])
    sync(wandb_server, tmp_path, root)
    assert [run.path for run in wandb_server.state.runs.values()] == ["team-b/p/r1"]
    assert_all_there(wandb_server, root, "r1")
    assert console(wandb_server, "r1") == []


@pytest.mark.parametrize("place", ["rows.jsonl", "run.json"])
def test_run_with_a_gap_is_uploaded_and_never_complete(wandb_server: WandbServer, tmp_path: Path, place: str) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 25)
    folder = root / "_trackkit" / "r1"
    gap = {"rows": 30, "first": 61, "last": 90}
    if place == "rows.jsonl":
        with (folder / place).open("a") as file:
            file.write(json.dumps({"_gap": gap}) + "\n")
    else:
        (folder / place).write_text(json.dumps({**json.loads((folder / place).read_text()), "gap": gap}))
    for _ in range(2):
        printed = sync(wandb_server, tmp_path, root, code=1)
        assert row_of(printed, "r1")[-1] == "incomplete"
        assert "30 rows (steps 61 to 90) could not be recorded and are lost" in printed
    assert batch_steps(wandb_server) == list(range(25))
