"""A killed training whose user also logs to W&B, which increases W&B's own step: no row is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.doomed import STEPS, Task
from tests.support.local_log import local_run
from tests.support.resuming import FRAMEWORKS, HANG, KILL, killed, online, send
from tests.support.wandb_offline import find_runs
from tests.support.warm import Program, last_checkpoint
from tests.wandb_server import WandbServer
from tests.wandb_server.runs import Run
from trackkit.integrations.wandb.files import read_history

OWN = """
import torch, trackkit
plain = torch.optim.SGD.step
def step(self, closure=None):
    result = plain(self, closure)
    trackkit.run.log({"mine/a": 1.0})
    trackkit.run.log({"mine/b": 2.0})
    return result
torch.optim.SGD.step = step
"""


def steps(run: Run) -> list[int]:
    return [row["batch/step"] for row in run.history if "batch/loss" in row]


def resume(home: Path, framework: str, checkpoint: str, env: dict[str, str] | None = None, own: str = OWN) -> None:
    program = Program(home, Task(framework, before=own, resume=checkpoint), env)
    assert program.wait() == 0, program.stderr
    assert "Tried to log to step" not in program.stderr, program.stderr


def assert_whole(server: WandbServer, home: Path, least: int) -> None:
    """Asserts that each step is there once, in order, and at least that many of the user's values."""
    run = server.state.run(local_run(home).run["run_id"])
    assert steps(run) == list(range(1, STEPS + 1))
    places = [row["_step"] for row in run.history]
    assert places == sorted(set(places))
    for key in ("mine/a", "mine/b"):
        assert sum(key in row for row in run.history) >= least


@FRAMEWORKS
@pytest.mark.parametrize("seen", [74, 30], ids=["server ahead", "server behind"])
def test_online_run_is_completed(wandb_server: WandbServer, tmp_path: Path, framework: str, seen: int) -> None:
    """Rows that the server lacks are sent with the time they were recorded at.

    wandb answers that its step is 0 until something is logged: where the server is behind, TrackKit logs first.
    """
    env = online(wandb_server, tmp_path)
    program = Program(tmp_path, Task(framework, {"mode": "online"}, before=OWN, pause=0.03, at=74, then=HANG), env)
    program.wait_for_step(30)
    run_id = local_run(tmp_path).run["run_id"]
    wandb_server.state.wait_for(lambda state: len(steps(state.run(run_id))) >= 20)
    if seen == 30:
        wandb_server.faults.set("http_500", only="file_stream")
    program.wait_for_step(74)
    if seen == 74:
        wandb_server.state.wait_for(lambda state: len(steps(state.run(run_id))) >= 73)
    program.kill()
    program.wait()
    wandb_server.faults.clear()
    resume(tmp_path, framework, last_checkpoint(tmp_path), env, own=OWN if seen == 74 else "")
    assert_whole(wandb_server, tmp_path, 30 if seen == 74 else 20)
    local = local_run(tmp_path).rows
    resumed = next(line["_time"] for line in local if "_pass" in line)
    first = {line["batch/step"] for line in local if "batch/loss" in line and "_pass" not in line}
    run = wandb_server.state.run(run_id)
    times = [row["_timestamp"] for row in run.history if row.get("batch/step") in first]
    # W&B merges the user's later values into some of them.
    assert sum(time < resumed for time in times) > 0.6 * len(first)


@pytest.mark.parametrize(("framework", "tool"), [("lightning", "wandb"), ("huggingface", "trackkit")])
def test_offline_run_is_complete(wandb_server: WandbServer, tmp_path: Path, framework: str, tool: str) -> None:
    """The files of the two attempts are sent one after the other."""
    checkpoint = killed(tmp_path, Task(framework, before=OWN, pause=0.02, at=74, then=KILL))
    resume(tmp_path, framework, checkpoint)
    first, second = (list(read_history(path)) for path in find_runs(tmp_path))
    assert max(row["_step"] for row in first) < min(row["_step"] for row in second)
    send(wandb_server, tmp_path, tool)
    # What W&B had not written when it was killed is in no file.
    recorded = sum("mine/a" in row for row in first + second)
    assert recorded > STEPS / 2
    assert_whole(wandb_server, tmp_path, recorded - 1)
