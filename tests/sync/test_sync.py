"""`trackkit sync` against a server that the real W&B client works with, from runs that real processes recorded."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.doomed import STEPS, Task
from tests.support.processes import clean_env
from tests.support.warm import Program, last_checkpoint
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment, kill
from trackkit import read_run
from trackkit.integrations.wandb.blocks import Reader, Writer
from trackkit.integrations.wandb.files import parse
from trackkit.local_log import index


def record(root: Path, run_id: str, first: int, last: int, *more: str) -> None:
    """A run recorded offline by a process that has ended."""
    process = start_recorder(root, run_id, first, last, *more)
    out, err = process.communicate(timeout=300)
    assert process.returncode == (-signal.SIGKILL if "kill" in more else 0), f"{out}\n{err}"


def start_recorder(root: Path, run_id: str, first: int, last: int, *more: str) -> subprocess.Popen[str]:
    root.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.support.recorder", str(root), run_id, str(first), str(last), *more]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=root, env=clean_env(), start_new_session=True, **pipes)


def start_sync(server: WandbServer, home: Path, *arguments: str | Path, **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "trackkit.cli.main", "sync", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A cluster's settings for its trainings must not lead an upload astray.
    training = {"WANDB_MODE": "offline", "WANDB_PROJECT": "other", "WANDB_RUN_ID": "other", "WANDB_RESUME": "never"}
    surroundings = {**environment(server, home), **training, "COLUMNS": "200", **env}
    surroundings.pop("WANDB_DIR")
    return subprocess.Popen(command, cwd=home, env=surroundings, stdin=subprocess.DEVNULL, **pipes)


def finish_sync(process: subprocess.Popen[str], code: int, timeout: float = 300) -> str:
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"no end in {timeout} s\n{out}\n{err}") from None
    assert process.returncode == code, f"ended with {process.returncode}, not {code}\n{out}\n{err}"
    assert "Traceback" not in err, err
    return out + err


def sync(server: WandbServer, home: Path, *arguments: str | Path, code: int = 0, **env: str) -> str:
    return finish_sync(start_sync(server, home, *arguments, **env), code)


def plain_wandb_sync(server: WandbServer, home: Path, *paths: Path) -> None:
    command = [sys.executable, "-m", "wandb", "beta", "sync", *map(str, paths)]
    subprocess.run(command, cwd=home, env=environment(server, home), capture_output=True, timeout=300, check=True)


def row_of(text: str, run_id: str) -> list[str]:
    """The cells of a run in the printed table."""
    found = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.startswith(f"{run_id} ")]
    assert len(found) == 1, text
    return found[0]


def assert_all_there(server: WandbServer, folder: Path, run_id: str) -> None:
    """Every value of the local log is on the server once, nothing else is, and no step is there twice."""
    key = lambda value: str(float(value))  # noqa: E731
    local: Counter[Any] = Counter()
    for row in read_run(folder).history:
        axis = "epoch/step" if "epoch/step" in row else "batch/step"
        local.update((axis, row[axis], name, key(value)) for name, value in row.items() if name[0] != "_")
    remote: Counter[Any] = Counter()
    for row in server.state.run(run_id).history:
        for axis in ("batch", "epoch"):
            if f"{axis}/step" in row:
                named = {name: value for name, value in row.items() if name.startswith(f"{axis}/")}
                remote.update((f"{axis}/step", row[f"{axis}/step"], name, key(v)) for name, v in named.items())
    assert remote == local
    steps = [row["_step"] for row in server.state.run(run_id).history]
    assert steps == sorted(set(steps))


def console(server: WandbServer, run_id: str) -> list[str]:
    """The recorder's own lines."""
    found = [re.search(r"step \d+$", line) for line in server.state.run(run_id).console]
    return [match[0] for match in found if match]


def first_half(path: Path, copy: Path, cut: str) -> None:
    """The records of a transaction log up to the piece `cut` of the 100th line of output."""
    writer, lines = Writer(copy), 0
    for data in Reader(path).new(final=True):
        record = parse(data)
        writer.add(data)
        text = record.output_raw.line
        if lines == 99 and (text.strip().isdigit() if cut == "number" else text == cut):
            break
        lines += text.count("\n")
    writer.close()


def wandb_files(root: Path) -> list[Path]:
    return sorted(root.glob("wandb/offline-run-*/run-*.wandb"))


def test_a_run_arrives_whole_and_a_second_sync_uploads_nothing(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    weights = tmp_path / "weights.bin"
    weights.write_bytes(os.urandom(1000))
    record(root, "r1", 0, 25, "--artifact", str(weights))
    printed = sync(wandb_server, tmp_path, root)
    cells = row_of(printed, "r1")
    assert cells.pop(6) == f"{len(wandb_server.state.run('r1').console)} lines"
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
    for asked in (root, root / "trackkit-runs" / "r1", wandb_files(root)[0].parent, "r1"):
        again = sync(wandb_server, tmp_path, asked)
        assert row_of(again, "r1")[-1] == "unchanged"
        assert "nothing to upload" in again
    # Whether the run is still there, is asked.
    assert {request.operation for request in wandb_server.state.requests} <= {"Viewer", "GetDefaultEntity", "Run"}


def test_a_killed_run_is_completed_from_its_local_log(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 40, "--pause", "0.05", "--end", "kill")
    local = read_run(root)
    assert (len(local.history), local.run["status"]) == (44, "failed")
    assert sync(wandb_server, tmp_path, root).count("completing it from the local log") == 1
    assert_all_there(wandb_server, root, "r1")
    run = wandb_server.state.run("r1")
    assert (run.state, run.exit_code, run.summary["final/status"]) == ("failed", 1, "failed")
    assert len(console(wandb_server, "r1")) > 0
    before = len(run.history)
    sync(wandb_server, tmp_path, root)
    assert len(wandb_server.state.run("r1").history) == before


def test_a_wandb_file_without_a_record_is_made_good(wandb_server: WandbServer, tmp_path: Path) -> None:
    """A kill before W&B's first flush leaves its file empty but for 7 bytes: not even the run is in it."""
    root = tmp_path / "out"
    record(root, "r1", 0, 12, "--end", "kill")
    path = wandb_files(root)[0]
    path.write_bytes(path.read_bytes()[:7])
    config = root / "trackkit-runs" / "r1" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "trackkit/settings/project": "q"}))
    sync(wandb_server, tmp_path, root)
    assert_all_there(wandb_server, root, "r1")
    assert wandb_server.state.run("r1").project == "q"


def test_a_wandb_file_that_ends_within_a_record_is_sent(wandb_server: WandbServer, tmp_path: Path) -> None:
    """As a crash may leave it: W&B's own sync refuses it."""
    root = tmp_path / "out"
    record(root, "r1", 0, 25)
    path = wandb_files(root)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")


def test_fragments_of_one_run_with_a_crash_between_them(wandb_server: WandbServer, tmp_path: Path) -> None:
    """What the first file lost goes in before the second is uploaded; W&B would take it no more afterwards."""
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
def test_half_an_upload_is_gone_on_with(wandb_server: WandbServer, tmp_path: Path, cut: str) -> None:
    """W&B itself would append the whole file once more. A line of output that was cut comes again, whole."""
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


@pytest.mark.parametrize("how", ["interrupted", "outage"])
def test_a_sync_that_was_broken_off(wandb_server: WandbServer, tmp_path: Path, how: str) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 60)
    if how != "outage":
        wandb_server.faults.set("hang", only="upload")
    process = start_sync(wandb_server, tmp_path, root, "--patience", "2")
    try:
        wandb_server.state.wait_for(lambda state: state.runs and len(state.run("r1").history) >= 30)
        if how == "outage":
            wandb_server.faults.set("refuse")
        else:
            process.send_signal(signal.SIGINT)
        printed = finish_sync(process, 1 if how == "outage" else 130, 60)
    finally:
        process.kill()
    assert ("must answer, and does not" if how == "outage" else "goes on from there") in printed
    wandb_server.faults.clear()
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    assert console(wandb_server, "r1") == [f"step {number}" for number in range(60)]
    assert wandb_server.state.run("r1").state == "finished"


def test_no_server_no_key_wrong_key_no_run(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 5)
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert "must know the W&B key, and answers HTTP 401" in sync(
        wandb_server, tmp_path, root, code=1, WANDB_API_KEY="f" * 40
    )
    assert "run 'wandb login'" in sync(wandb_server, tmp_path, root, code=1, WANDB_API_KEY="")
    assert "'nothing' is none of these" in sync(wandb_server, tmp_path, "nothing", code=1)
    assert "must hold 'trackkit-runs/<run id>'" in sync(wandb_server, tmp_path, tmp_path, code=1)
    wandb_server.faults.set("refuse")
    assert "Connection refused; try again later" in sync(wandb_server, tmp_path, root, code=1)
    wandb_server.faults.clear()
    assert wandb_server.state.runs == {}
    assert {path: path.read_bytes() for path in files} == files
    wandb_server.faults.deny("UpsertBucket", status=403)
    assert "permission denied" in sync(wandb_server, tmp_path, root, code=1)
    wandb_server.faults.clear()
    sync(wandb_server, tmp_path, root)
    assert_all_there(wandb_server, root, "r1")


def test_an_artifact_that_did_not_arrive_is_told_and_sent_again(wandb_server: WandbServer, tmp_path: Path) -> None:
    root, weights = tmp_path / "out", tmp_path / "weights.bin"
    weights.write_bytes(b"weights")
    record(root, "r1", 0, 5, "--artifact", str(weights))
    weights.rename(tmp_path / "moved")
    printed = sync(wandb_server, tmp_path, root, code=1)
    assert row_of(printed, "r1")[-2:] == ["0/1", "incomplete"]
    assert re.search("artifacts must be COMMITTED: 'model' is", printed)
    (tmp_path / "moved").rename(weights)
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-2:] == ["1/1", "complete"]
    assert wandb_server.state.file("model", "v0", "weights.bin") == b"weights"
    assert_all_there(wandb_server, root, "r1")


def test_a_row_below_the_servers_last_step_is_added_and_one_that_is_there_twice_is_told(
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
    assert re.search(r"1 rows \(batch/step 20\) are there more than once", printed)


def test_a_live_run_is_left_alone_without_watch(wandb_server: WandbServer, tmp_path: Path) -> None:
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
def test_watch_shows_live_runs_until_they_end(wandb_server: WandbServer, tmp_path: Path, end: str) -> None:
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
            finish_sync(process, 130, 40)
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
        assert_all_there(wandb_server, root / "trackkit-runs" / name, name)
        assert wandb_server.state.run(name).state == ("finished" if end == "ok" else "failed")


def test_without_arguments_all_of_the_index(wandb_server: WandbServer, tmp_path: Path) -> None:
    for name in ("r1", "r2", "gone"):
        record(tmp_path / name, name, 0, 5)
    shutil.rmtree(tmp_path / "gone" / "trackkit-runs" / "gone")
    sync(wandb_server, tmp_path, "r1")
    printed = sync(wandb_server, tmp_path)
    assert row_of(printed, "r2")[-1] == "complete"
    assert "r1 " not in printed
    assert sorted(run.id for run in wandb_server.state.runs.values()) == ["r1", "r2"]
    assert "every run of the index is on the server" in sync(wandb_server, tmp_path)
    lines = Path(os.environ["TRACKKIT_INDEX"]).read_text().splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == ["r1", "r2"]


def test_two_syncs_at_once(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 20)
    wandb_server.faults.set("hang", only="upload")
    first = start_sync(wandb_server, tmp_path, root)
    try:
        wandb_server.state.wait_for(lambda state: state.runs and state.run("r1").history)
        assert "being synced by another process" in sync(wandb_server, tmp_path, root, code=1)
        wandb_server.faults.clear()
        finish_sync(first, 0)
    finally:
        first.kill()
    assert_all_there(wandb_server, root, "r1")


def wait_for(condition: Any, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_training_that_was_killed_and_resumed(wandb_server: WandbServer, tmp_path: Path) -> None:
    """The local log has steps 61 to 74 twice; W&B keeps the first pass."""
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
