"""A killed training is resumed: W&B ends with every step once, whatever it had before."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.support.doomed import STEPS, Task
from tests.support.local_log import local_run
from tests.support.resuming import FRAMEWORKS, HANG, KILL, killed, online, resume, send, wait_until
from tests.support.wandb_offline import find_runs
from tests.support.warm import Program, last_checkpoint
from tests.wandb_server import WandbServer


def assert_each_step_once(server: WandbServer, home: Path) -> None:
    """Asserts that the server has every step and evaluation once, and the summary of the whole training."""
    local = local_run(home)
    run = server.state.run(local.run["run_id"])
    places = [row["_step"] for row in run.history]
    assert places == sorted(set(places))
    assert [row["batch/step"] for row in run.history if "batch/loss" in row] == list(range(1, STEPS + 1))
    evaluated = [(row["epoch/step"], row["epoch/val/loss"]) for row in run.history if "epoch/val/loss" in row]
    assert evaluated == local.history("epoch/val/loss")
    assert {key: run.summary[key] for key in local.summary} == local.summary
    assert (run.state, len(server.state.runs)) == ("finished", 1)


@pytest.mark.parametrize(("framework", "tool"), [("lightning", "wandb"), ("huggingface", "trackkit")])
def test_sync_merges_offline_attempts(wandb_server: WandbServer, tmp_path: Path, framework: str, tool: str) -> None:
    """The attempts start in different seconds, so that their folders have different names."""
    resume(tmp_path, framework, killed(tmp_path, Task(framework, pause=0.03, at=74, then=KILL)))
    assert len(find_runs(tmp_path)) == 2
    send(wandb_server, tmp_path, tool)
    assert_each_step_once(wandb_server, tmp_path)


@FRAMEWORKS
def test_online_run_survives_immediate_resumes(wandb_server: WandbServer, tmp_path: Path, framework: str) -> None:
    """The wandb-core of a killed program lives for another second and may still be uploading."""
    env, checkpoint = online(wandb_server, tmp_path), ""
    for at in (30, 50, 74):
        task = Task(framework, {"mode": "online"}, resume=checkpoint, pause=0.03, at=at, then=KILL)
        checkpoint = killed(tmp_path, task, env)
    resume(tmp_path, framework, checkpoint, env)
    assert local_run(tmp_path).run["passes"] == 4
    assert_each_step_once(wandb_server, tmp_path)


@FRAMEWORKS
def test_resume_waits_for_writers_of_the_earlier_file(tmp_path: Path, framework: str) -> None:
    """The wandb-core of a killed program keeps its file open while it writes and uploads."""
    checkpoint = killed(tmp_path, Task(framework, at=74, then=KILL))
    with find_runs(tmp_path)[0].open("rb"):
        program = Program(tmp_path, Task(framework, resume=checkpoint))
        wait_until(lambda: local_run(tmp_path).run.get("passes") == 2)
        time.sleep(1.5)
        assert len(find_runs(tmp_path)) == 1
    assert program.wait() == 0, program.stderr
    assert len(find_runs(tmp_path)) == 2


@FRAMEWORKS
@pytest.mark.parametrize("seen", [74, 1], ids=["server ahead", "server behind"])
def test_online_resume_gives_every_step_once(
    wandb_server: WandbServer, tmp_path: Path, framework: str, seen: int
) -> None:
    """Whether the server has more than the checkpoint, or less after an outage."""
    env = online(wandb_server, tmp_path)
    program = Program(tmp_path, Task(framework, {"mode": "online"}, pause=0.03, at=74, then=HANG), env)
    program.wait_for_step(1)
    if seen == 1:
        wandb_server.faults.set("http_500", only="file_stream")
    program.wait_for_step(74)
    run_id = local_run(tmp_path).run["run_id"]
    if seen == 74:
        wandb_server.state.wait_for(lambda state: len(state.run(run_id).history) >= 73)
    program.kill()
    program.wait()
    wandb_server.faults.clear()
    assert (len(wandb_server.state.run(run_id).history) > 60) == (seen == 74)
    resume(tmp_path, framework, last_checkpoint(tmp_path), env)
    assert_each_step_once(wandb_server, tmp_path)


@FRAMEWORKS
def test_online_resume_without_the_local_log(wandb_server: WandbServer, tmp_path: Path, framework: str) -> None:
    """The local log is on another machine: W&B keeps what it has, and no step is repeated."""
    env = online(wandb_server, tmp_path)
    task = Task(framework, {"mode": "online"}, pause=0.03, at=74, then=HANG)
    program = Program(tmp_path / "old", task, env)
    program.wait_for_step(74)
    run_id = local_run(tmp_path).run["run_id"]
    wandb_server.state.wait_for(lambda state: len(state.run(run_id).history) >= 73)
    program.kill()
    program.wait()
    checkpoint = Path(last_checkpoint(tmp_path / "old"))
    checkpoint = checkpoint.rename(tmp_path / checkpoint.name)
    shutil.rmtree(tmp_path / "old")
    resume(tmp_path / "new", framework, str(checkpoint), env)
    run = wandb_server.state.run(run_id)
    steps = [row["batch/step"] for row in run.history if "batch/loss" in row]
    assert steps == list(range(1, STEPS + 1))
    assert run.state == "finished"
