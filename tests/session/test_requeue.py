"""Trainings that SLURM preempts and requeues: the same run is resumed, and W&B has every step once.

SLURM itself is replaced: the program sends its warning signal to itself, and `scontrol` is a script that notes its
arguments and terminates the program, as a requeue does.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.doomed import STEPS, Task
from tests.support.local_log import local_run
from tests.support.wandb_offline import find_runs, read_finished
from tests.support.warm import Program, last_checkpoint
from tests.wandb_server import WandbServer
from trackkit import read_run

JOB = "4711"
USR1 = "import os, signal; os.kill(os.getpid(), signal.SIGUSR1)"
TERM = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
WITHIN_A_ROW = """
import os, signal
from trackkit.engine.ranks import Exchange
post = Exchange.post
def interrupted(self, row, step, values):
    if row == 29:
        os.kill(os.getpid(), signal.SIGUSR1)
    post(self, row, step, values)
Exchange.post = interrupted
"""
# When the signal arrives: 30 steps into an attempt.
MOMENTS = {"within a step": Task("lightning", at=30, then=USR1), "within a row": Task("lightning", before=WITHIN_A_ROW)}


def surroundings(home: Path, restarts: int) -> dict[str, str]:
    """Returns the environment of a SLURM job of one task, with our `scontrol` first in PATH."""
    programs = home / "bin"
    if not programs.exists():
        programs.mkdir(parents=True)
        scontrol = programs / "scontrol"
        scontrol.write_text('#!/bin/sh\necho "$@" >> "$SCONTROL_NOTES"\nkill -TERM $PPID\n')
        scontrol.chmod(0o755)
    job = {"JOB_ID": JOB, "JOB_NAME": "train", "NODELIST": "localhost", "NTASKS": "1", "NNODES": "1"}
    place = {"PROCID": "0", "LOCALID": "0", "NODEID": "0", "NTASKS_PER_NODE": "1"}
    counted = {"RESTART_COUNT": str(restarts)} if restarts else {}
    slurm = {f"SLURM_{name}": value for name, value in {**job, **place, **counted}.items()}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**slurm, "PATH": path, "SCONTROL_NOTES": str(home / "notes")}


def requeued(home: Path, task: Task, restarts: int, env: dict[str, str] | None = None) -> int:
    """Runs an attempt that SLURM ends (SIGUSR1, checkpoint, `scontrol requeue`, SIGTERM); returns its exit code."""
    code = Program(home, task, {**surroundings(home, restarts), **(env or {})}).wait()
    assert (home / "notes").read_text().splitlines() == [f"requeue {JOB}"] * (restarts + 1)
    return code


def finished(home: Path, task: Task, env: dict[str, str]) -> None:
    program = Program(home, task, env)
    assert program.wait() == 0, program.stderr
    assert "Tried to log to step" not in program.stderr, program.stderr


def assert_each_once(rows: list[dict[str, object]]) -> None:
    places = [row["_step"] for row in rows]
    assert places == sorted(set(places), key=int)  # type: ignore[call-overload]
    assert [row["batch/step"] for row in rows if "batch/loss" in row] == list(range(1, STEPS + 1))
    assert [row["epoch/step"] for row in rows if "epoch/val/loss" in row] == [STEPS // 2, STEPS]


def fragments(home: Path) -> list[dict[str, object]]:
    """Returns the rows of the offline files, in the order in which `wandb sync` sends them."""
    return [row for path in find_runs(home) for row in read_finished(path).rows]


@pytest.mark.parametrize("moment", MOMENTS)
def test_lightning_is_resumed_after_two_requeues(tmp_path: Path, moment: str) -> None:
    """Lightning finds its own checkpoint."""
    task, out = MOMENTS[moment], tmp_path / "out"
    for restarts in (0, 1):
        # Lightning exits without an error.
        assert requeued(tmp_path, task, restarts) == 0
        assert (out / f"hpc_ckpt_{restarts + 1}.ckpt").exists()
        run = read_run(out)
        assert (run.run["status"], run.summary["final/tracker_errors"]) == ("preempted", 0)
    finished(tmp_path, Task("lightning"), surroundings(tmp_path, 2))
    last = local_run(tmp_path).run
    assert (last["status"], last["passes"]) == ("finished", 3)
    assert last["name"] == f"doomed-{JOB}-{last['run_id'][-4:]}"
    assert len(find_runs(tmp_path)) == 3
    assert_each_once(fragments(tmp_path))


def test_lightning_requeues_as_without_trackkit(tmp_path: Path) -> None:
    assert requeued(tmp_path, Task("lightning", None, at=30, then=USR1), 0) == 0


def test_hugging_face_is_resumed_after_two_requeues(tmp_path: Path) -> None:
    """The batch script starts the program again with its last checkpoint."""
    out = tmp_path / "out"
    for at in (30, 70):
        program = Program(
            tmp_path, Task("huggingface", resume=last_checkpoint(tmp_path), at=at, then=TERM), surroundings(tmp_path, 0)
        )
        assert program.wait() == -signal.SIGTERM
        assert read_run(out).run["status"] == "preempted"
    finished(tmp_path, Task("huggingface", resume=last_checkpoint(tmp_path)), surroundings(tmp_path, 2))
    run = local_run(tmp_path).run
    assert (run["status"], run["passes"]) == ("finished", 3)
    assert len(find_runs(tmp_path)) == 3
    assert_each_once(fragments(tmp_path))


@pytest.mark.parametrize("framework", ["lightning", "huggingface"])
def test_online_run_is_preempted_and_then_resumed(wandb_server: WandbServer, tmp_path: Path, framework: str) -> None:
    env = {key: value for key, value in wandb_server.env(tmp_path).items() if key != "WANDB_DIR"}
    env["WANDB_MODE"] = "online"
    checkpoint = ""
    if framework == "lightning":
        requeued(tmp_path, Task("lightning", {"mode": "online"}, at=30, then=USR1), 0, env)
    else:
        Program(tmp_path, Task("huggingface", {"mode": "online"}, at=50, then=TERM), env).wait()
        checkpoint = last_checkpoint(tmp_path)
    run_id = local_run(tmp_path).run["run_id"]
    assert wandb_server.state.run(run_id).state == "preempted"
    finished(tmp_path, Task(framework, {"mode": "online"}, checkpoint), {**surroundings(tmp_path, 1), **env})
    run = wandb_server.state.run(run_id)
    assert (run.state, run.summary["final/status"], len(wandb_server.state.runs)) == ("finished", "finished", 1)
    assert_each_once(run.history)
