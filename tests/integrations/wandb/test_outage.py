"""The server goes away while a training runs: the training is not disturbed, and no row is lost."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.measured_training import Training
from tests.support.processes import ROOT
from tests.support.warm import run_sync
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment
from tests.wandb_server.runs import Run
from trackkit import read_run

FINISH_S = 2.0
STEPS = list(range(1, 25))
DOWN, UP = 8, 16


def start(server: WandbServer, home: Path, framework: str, *more: str) -> Training:
    """Starts a training that is recorded online and pauses at steps `DOWN` and `UP`."""
    holds = ["--hold", str(DOWN), str(UP), "--finish-timeout", str(FINISH_S), "--pause", "0.02"]
    training = Training(server, home, [framework, *holds, *more])
    training.wait_at(DOWN)
    server.state.wait_for(lambda _: len(the_run(server).history) >= DOWN - 2)
    return training


def the_run(server: WandbServer) -> Run:
    runs = list(server.state.runs.values())
    assert len(runs) == 1, runs
    return runs[0]


def assert_undisturbed(training: Training) -> None:
    """Asserts that the training thread waited for no socket and the local log is whole."""
    report, run = training.report, training.local
    assert report["sockets_elsewhere"] > len(report["sockets"]), "no socket call was recorded"
    assert [each for each in report["sockets"] if each[2:] != ["AF_UNIX", "never waits"]] == []
    assert [step for step, _ in run.history("batch/loss")] == STEPS
    assert (run.run["status"], run.run["exit_code"], run.summary["final/tracker_errors"]) == ("finished", 0, 0)


def assert_complete(server: WandbServer, training: Training) -> None:
    """Asserts that the server has every row of the local log once."""
    remote, local = the_run(server).history, training.local.rows
    for key in ("batch/loss", "batch/lr", "epoch/val/loss"):
        axis = "epoch/step" if key.startswith("epoch/") else "batch/step"
        assert [(row[axis], row[key]) for row in remote if key in row] == training.local.history(key)
    assert len(remote) == len({row["_step"] for row in remote}) <= len(local)
    assert the_run(server).summary["final/steps"] == 24


def sync(server: WandbServer, training: Training) -> str:
    """Runs `trackkit sync` on the run; returns what it prints."""
    env = {
        **environment(server, training.home),
        "TRACKKIT_INDEX": os.devnull,
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }
    env.pop("WANDB_DIR")
    done = run_sync(str(training.local.folder), cwd=training.home, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("framework", "fault"),
    [
        ("lightning", "refuse"),
        ("huggingface", "refuse"),
        ("huggingface", "hang"),
        ("lightning", "http_500"),
        ("huggingface", "http_429"),
        ("lightning", "reset"),
    ],
)
def test_short_outage_loses_no_row(wandb_server: WandbServer, tmp_path: Path, framework: str, fault: str) -> None:
    training = start(wandb_server, tmp_path, framework, "--finish-timeout", "30")
    try:
        wandb_server.faults.set(fault)
        training.release(DOWN)
        training.wait_at(UP)
        time.sleep(1.0)
        wandb_server.faults.clear()
        training.release(UP)
        training.finish()
    finally:
        training.kill()
    assert_undisturbed(training)
    assert_complete(wandb_server, training)
    assert the_run(wandb_server).state == "finished"


@pytest.mark.parametrize(
    ("framework", "fault"),
    [("lightning", "hang"), ("lightning", "slow"), ("huggingface", "refuse"), ("huggingface", "http_500")],
)
def test_training_ends_during_an_outage_and_is_synced_later(
    wandb_server: WandbServer, tmp_path: Path, framework: str, fault: str
) -> None:
    training = start(wandb_server, tmp_path, framework)
    try:
        wandb_server.faults.set(fault)
        training.release(DOWN)
        training.wait_at(UP)
        training.release(UP)
        training.finish()
    finally:
        training.kill()
    assert_undisturbed(training)
    assert [line for line in training.lines if "Waiting" in line] == ["trackkit: Waiting up to 2 s for W&B."]
    late = "W&B did not receive everything within 2 s; the rest is on disk. Upload what is missing with `trackkit sync"
    assert late in training.lines[-1]
    assert the_run(wandb_server).state == "running"
    wandb_server.faults.clear()
    sync(wandb_server, training)
    assert_complete(wandb_server, training)
    assert len(read_run(training.local.folder).history) == len(training.local.rows)


@pytest.mark.parametrize(("framework", "handled"), [("lightning", True), ("huggingface", False)])
def test_lost_connections_lose_no_row(wandb_server: WandbServer, tmp_path: Path, framework: str, handled: bool) -> None:
    training = start(wandb_server, tmp_path, framework, "--finish-timeout", "30")
    try:
        wandb_server.faults.drop_every(3, handled)
        for step in (DOWN, UP):
            training.release(step)
        training.finish()
    finally:
        training.kill()
    assert_undisturbed(training)
    assert_complete(wandb_server, training)


def test_slow_server_does_not_slow_training(wandb_server: WandbServer, tmp_path: Path) -> None:
    training = start(wandb_server, tmp_path, "lightning")
    try:
        wandb_server.faults.set("slow", only="file_stream")
        training.release(DOWN)
        training.wait_at(UP)
        wandb_server.faults.clear()
        training.release(UP)
        training.finish()
    finally:
        training.kill()
    assert_undisturbed(training)
    assert_complete(wandb_server, training)
