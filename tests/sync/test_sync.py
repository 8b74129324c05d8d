"""`trackkit sync` of runs recorded by real processes, to a server that the real W&B client works with."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.doomed import STEPS, Task
from tests.support.syncing import (
    assert_all_there,
    console,
    finish_sync,
    plain_wandb_sync,
    record,
    row_of,
    start_recorder,
    start_sync,
    sync,
    wait_for,
    wandb_files,
)
from tests.support.warm import Program, last_checkpoint
from tests.wandb_server import WandbServer
from tests.wandb_server.client import kill
from trackkit import read_run
from trackkit.integrations.wandb.blocks import Reader, Writer
from trackkit.integrations.wandb.files import parse
from trackkit.local_log import index


def first_half(path: Path, copy: Path, cut: str) -> None:
    """Copies a transaction log up to the piece `cut` of the 100th line of output."""
    writer, lines = Writer(copy), 0
    for data in Reader(path).new(final=True):
        record = parse(data)
        writer.add(data)
        text = record.output_raw.line
        if lines == 99 and (text.strip().isdigit() if cut == "number" else text == cut):
            break
        lines += text.count("\n")
    writer.close()


def test_second_sync_of_a_run_uploads_nothing(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    weights = tmp_path / "weights.bin"
    weights.write_bytes(os.urandom(1000))
    record(root, "r1", 0, 25, "--artifact", str(weights))
    printed = sync(wandb_server, tmp_path, root)
    cells = row_of(printed, "r1")
    assert cells == ["r1", "27", "27", "0", "ok", "ok", "1/1", "complete"]
    assert_all_there(wandb_server, root, "r1")
    run = wandb_server.state.run("r1")
    assert (run.state, run.exit_code, run.display_name) == ("finished", 0, "a run")
    assert (run.summary["final/status"], run.summary["final/steps"]) == ("finished", 25)
    assert run.config["hparams/lr"] == 0.1
    assert console(wandb_server, "r1") == [f"step {number}" for number in range(25)]
    assert wandb_server.state.file("model", "v0", "weights.bin") == weights.read_bytes()
    assert wandb_server.state.unserved == []
    wandb_server.state.requests.clear()
    for asked in (root, root / "_trackkit" / "r1", wandb_files(root)[0].parent, "r1"):
        again = sync(wandb_server, tmp_path, asked)
        assert row_of(again, "r1")[-1] == "unchanged"
        assert "nothing to upload" in again
    # It asks only whether the server still has the run.
    assert {request.operation for request in wandb_server.state.requests} <= {"Viewer", "GetDefaultEntity", "Run"}


def test_killed_run_is_completed_from_its_local_log(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 40, "--pause", "0.05", "--end", "kill")
    local = read_run(root)
    assert (len(local.history), local.run["status"]) == (44, "failed")
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    run = wandb_server.state.run("r1")
    assert (run.state, run.exit_code, run.summary["final/status"]) == ("failed", 1, "failed")
    assert len(console(wandb_server, "r1")) > 0
    before = len(run.history)
    sync(wandb_server, tmp_path, root)
    assert len(wandb_server.state.run("r1").history) == before


def test_wandb_file_without_a_record_is_replaced_by_the_local_log(wandb_server: WandbServer, tmp_path: Path) -> None:
    """A kill before W&B's first flush leaves 7 bytes: even the run record is lost."""
    root = tmp_path / "out"
    record(root, "r1", 0, 12, "--end", "kill")
    path = wandb_files(root)[0]
    path.write_bytes(path.read_bytes()[:7])
    config = root / "_trackkit" / "r1" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "trackkit/settings/project": "q"}))
    sync(wandb_server, tmp_path, root)
    assert_all_there(wandb_server, root, "r1")
    assert wandb_server.state.run("r1").project == "q"


def test_wandb_file_cut_within_a_record_is_uploaded(wandb_server: WandbServer, tmp_path: Path) -> None:
    """A crash may leave such a file, and W&B's own sync refuses it."""
    root = tmp_path / "out"
    record(root, "r1", 0, 25)
    path = wandb_files(root)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")


def test_rows_lost_between_two_attempts_land_at_their_steps(wandb_server: WandbServer, tmp_path: Path) -> None:
    """W&B takes no rows below its last step: what the first file lost goes in front of the second file's rows."""
    root = tmp_path / "out"
    record(root, "r1", 0, 25, "--pause", "0.05", "--end", "kill")
    time.sleep(1.1)
    record(root, "r1", 25, 40)
    assert len(wandb_files(root)) == 2
    assert row_of(sync(wandb_server, tmp_path, "r1"), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    assert wandb_server.state.run("r1").state == "finished"
    assert console(wandb_server, "r1")[-15:] == [f"step {number}" for number in range(25, 40)]


@pytest.mark.parametrize("cut", ["step", " ", "number", "\n"])
def test_partial_upload_is_resumed(wandb_server: WandbServer, tmp_path: Path, cut: str) -> None:
    """W&B itself would append the whole file again. A line of output cut by the upload is sent again, whole."""
    root = tmp_path / "out"
    record(root, "r1", 0, 200, "--pause", "0.005")
    path = wandb_files(root)[0]
    half = tmp_path / "half" / path.parent.name
    shutil.copytree(path.parent, half)
    first_half(path, half / path.name, cut)
    plain_wandb_sync(wandb_server, tmp_path, half)
    there = len(wandb_server.state.run("r1").history)
    assert 20 < there < 180
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    assert console(wandb_server, "r1") == [f"step {number}" for number in range(200)]
    assert wandb_server.state.run("r1").state == "finished"


# How a sync is stopped: exit code, and what it prints.
STOPS = {
    "interrupted": (130, "run the same command again to continue"),
    "outage": (1, "does not answer"),
    "killed": (-signal.SIGKILL, ""),
}


@pytest.mark.parametrize("how", STOPS)
def test_stopped_sync_is_resumed(wandb_server: WandbServer, tmp_path: Path, how: str) -> None:
    """The upload ends with the sync, even if that is killed: it would send rows unseen by the next sync."""
    code, said = STOPS[how]
    root = tmp_path / "out"
    record(root, "stopped", 0, 60)
    if how != "outage":
        wandb_server.faults.set("hang", only="upload")
    process = start_sync(wandb_server, tmp_path, root, "--patience", "2", fork_uploads=False)
    try:
        wandb_server.state.wait_for(lambda state: state.runs and len(state.run("stopped").history) >= 30)
        if how == "outage":
            wandb_server.faults.set("refuse")
        else:
            process.send_signal(signal.SIGINT if how == "interrupted" else signal.SIGKILL)
        assert said in finish_sync(process, code)
    finally:
        process.kill()
    wandb_server.faults.clear()
    wait_for(lambda: not uploads_of("stopped"))
    assert row_of(sync(wandb_server, tmp_path, root), "stopped")[-1] == "complete"
    assert_all_there(wandb_server, root, "stopped")
    assert console(wandb_server, "stopped") == [f"step {number}" for number in range(60)]
    assert wandb_server.state.run("stopped").state == "finished"


def uploads_of(run_id: str) -> list[int]:
    """Returns the processes that upload a run."""
    processes = psutil.process_iter(["pid", "cmdline"])
    return [each.pid for each in processes if any(f"run-{run_id}.wandb" in word for word in each.info["cmdline"] or ())]


def test_errors_name_the_cause_and_change_nothing(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 5)
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.parent.name != "logs"}
    assert "rejected the API key (HTTP 401)" in sync(wandb_server, tmp_path, root, code=1, WANDB_API_KEY="f" * 40)
    assert "Run `wandb login`" in sync(wandb_server, tmp_path, root, code=1, WANDB_API_KEY="")
    assert "no run 'nothing'" in sync(wandb_server, tmp_path, "nothing", code=1)
    (tmp_path / "empty").mkdir()
    assert "no run in '" in sync(wandb_server, tmp_path, tmp_path / "empty", code=1)
    wandb_server.faults.set("refuse")
    assert "Connection refused. Try again later" in sync(wandb_server, tmp_path, root, code=1)
    wandb_server.faults.clear()
    assert wandb_server.state.runs == {}
    assert {path: path.read_bytes() for path in files} == files
    wandb_server.faults.deny("UpsertBucket", status=403)
    assert "permission denied" in sync(wandb_server, tmp_path, root, code=1)
    wandb_server.faults.clear()
    sync(wandb_server, tmp_path, root)
    assert_all_there(wandb_server, root, "r1")


def test_artifact_whose_file_was_away_is_reported_and_sent_later(wandb_server: WandbServer, tmp_path: Path) -> None:
    root, weights = tmp_path / "out", tmp_path / "weights.bin"
    weights.write_bytes(b"weights")
    record(root, "r1", 0, 5, "--artifact", str(weights))
    weights.rename(tmp_path / "moved")
    printed = sync(wandb_server, tmp_path, root, code=1)
    assert row_of(printed, "r1")[-2:] == ["0/1", "incomplete"]
    assert "artifacts are not committed: 'model' is" in printed
    (tmp_path / "moved").rename(weights)
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-2:] == ["1/1", "complete"]
    assert wandb_server.state.file("model", "v0", "weights.bin") == b"weights"
    assert_all_there(wandb_server, root, "r1")


def test_row_below_the_last_step_is_added_and_a_doubled_one_is_reported(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 30)
    plain_wandb_sync(wandb_server, tmp_path, *[path.parent for path in wandb_files(root)])
    stream = wandb_server.state.run("r1").streams["wandb-history.jsonl"]
    del stream["", 10]
    stream["", 40] = stream["", 20]
    printed = sync(wandb_server, tmp_path, root, code=1)
    assert row_of(printed, "r1")[1:4] == ["33", "33", "0"]
    assert re.search(r"1 rows \(batch/step 20\) are on the server more than once", printed)


def test_running_run_is_left_alone_without_watch(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    process = start_recorder(root, "r1", 0, 5, "--wait")
    try:
        wait_for(lambda: len(wandb_files(root)) == 1)
        assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "running"
        assert wandb_server.state.runs == {}
    finally:
        kill(process)
    sync(wandb_server, tmp_path, root)
    assert_all_there(wandb_server, root, "r1")


@pytest.mark.parametrize("end", ["ok", "kill"])
def test_watch_follows_running_runs_until_they_end(wandb_server: WandbServer, tmp_path: Path, end: str) -> None:
    root = tmp_path / "out"
    recorders = [start_recorder(root, name, 0, 30, "--pause", "0.05", "--wait", "--end", end) for name in ("r1", "r2")]
    process = None
    try:
        wait_for(lambda: len(index.entries()) == 2)
        process = start_sync(wandb_server, tmp_path, "--watch")
        wandb_server.state.wait_for(
            lambda state: len(state.runs) == 2 and all(len(state.run(name).history) > 10 for name in ("r1", "r2"))
        )
        assert [recorder.poll() for recorder in recorders] == [None, None]
        assert wandb_server.state.run("r1").state == "running"
        if end == "ok":
            process.send_signal(signal.SIGINT)
            finish_sync(process, 130)
            process = start_sync(wandb_server, tmp_path, "--watch")
            wandb_server.state.wait_for(lambda state: all(state.run(name).resumed for name in ("r1", "r2")))
        (root / "go").touch()
        printed = finish_sync(process, 0)
    finally:
        for recorder in recorders:
            kill(recorder)
        if process is not None:
            process.kill()
    for name in ("r1", "r2"):
        assert row_of(printed, name)[-1] == "complete"
        assert_all_there(wandb_server, root / "_trackkit" / name, name)
        assert wandb_server.state.run(name).state == ("finished" if end == "ok" else "failed")


def test_default_is_every_unsynced_run_of_the_index(wandb_server: WandbServer, tmp_path: Path) -> None:
    for name in ("r1", "r2", "gone"):
        record(tmp_path / name, name, 0, 5)
    shutil.rmtree(tmp_path / "gone" / "_trackkit" / "gone")
    sync(wandb_server, tmp_path, "r1")
    printed = sync(wandb_server, tmp_path)
    assert row_of(printed, "r2")[-1] == "complete"
    assert "r1 " not in printed
    assert sorted(run.id for run in wandb_server.state.runs.values()) == ["r1", "r2"]
    assert "all your runs are on the server" in sync(wandb_server, tmp_path)
    lines = Path(os.environ["TRACKKIT_INDEX"]).read_text().splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == ["r1", "r2"]


def test_second_sync_at_once_is_refused(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 20)
    wandb_server.faults.set("hang", only="upload")
    first = start_sync(wandb_server, tmp_path, root)
    try:
        wandb_server.state.wait_for(lambda state: state.runs and state.run("r1").history)
        assert "another process is syncing it" in sync(wandb_server, tmp_path, root, code=1)
        wandb_server.faults.clear()
        finish_sync(first, 0)
    finally:
        first.kill()
    assert_all_there(wandb_server, root, "r1")


def test_resumed_training_has_the_first_attempt_of_repeated_steps(wandb_server: WandbServer, tmp_path: Path) -> None:
    """The local log has steps 61 to 74 twice."""
    killed = Program(tmp_path, Task("lightning", at=74, then="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert killed.wait() == -signal.SIGKILL, killed.stderr
    resumed = Program(tmp_path, Task("lightning", resume=last_checkpoint(tmp_path)))
    assert resumed.wait() == 0, resumed.stderr
    run = read_run(tmp_path / "out")
    assert {row["_pass"] for row in run.history} == {1, 2}
    assert [step for step, _ in run.series("batch/loss")] == list(range(1, STEPS + 1))
    run_id = run.run["run_id"]
    assert row_of(sync(wandb_server, tmp_path, "out"), run_id)[3:6] == ["0", "ok", "ok"]
    history = wandb_server.state.run(run_id).history
    assert [row["batch/step"] for row in history if "batch/loss" in row] == list(range(1, STEPS + 1))
    first = {row["batch/step"]: row["batch/loss"] for row in reversed(run.history) if "batch/loss" in row}
    assert {row["batch/step"]: row["batch/loss"] for row in history if "batch/loss" in row} == first
