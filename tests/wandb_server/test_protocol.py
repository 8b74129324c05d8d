"""The test server with the real wandb client, each in its own process: runs, and how they are resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.support.server_calls import steps
from tests.wandb_server import WandbServer
from tests.wandb_server.client import finish, kill, run, start


def test_everything_of_a_run_arrives(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import wandb
run = wandb.init(project="p", id="r1", name="first", group="g", job_type="train", tags=["a", "b"], notes="n",
                 config={"lr": 0.1, "model": {"depth": 3}})
run.define_metric("epoch")
run.define_metric("loss", step_metric="epoch", summary="min")
for step in (0, 5, 7):
    run.log({"loss": 1 / (step + 1), "epoch": step // 5}, step=step)
run.log({"loss": 2.0, "bad": float("nan"), "worse": float("inf")}, step=9)
print("hello from the client")
run.config.update({"late": True})
run.summary["best"] = 42
with open("note.txt", "w") as file:
    file.write("saved text")
run.save("note.txt")
run.alert("a title", "a text", level="WARN")
run.finish()
"""
    run(wandb_server, tmp_path, code)
    state = wandb_server.state
    got = state.run("r1")
    assert (got.entity, got.project, got.display_name) == ("test-team", "p", "first")
    assert (got.group, got.job_type, got.tags, got.notes) == ("g", "train", ["a", "b"], "n")
    assert got.config == {"lr": 0.1, "model": {"depth": 3}, "late": True}
    assert [row["_step"] for row in got.history] == [0, 5, 7, 9]
    assert got.history[1]["loss"] == pytest.approx(1 / 6)
    assert math.isnan(got.history[3]["bad"])
    assert math.isinf(got.history[3]["worse"])
    assert got.summary["best"] == 42
    assert got.summary["loss"] == {"min": pytest.approx(1 / 8)}
    metrics = got.raw_config["_wandb"]["value"]["m"]
    assert {metric.get("1") for metric in metrics} == {"epoch", "loss"}
    assert got.events
    assert any(line.endswith("hello from the client") for line in got.console)
    assert got.files["note.txt"].data == b"saved text"
    assert {"wandb-metadata.json", "requirements.txt", "config.yaml", "output.log"} <= set(got.files)
    assert all(file.confirmed for file in got.files.values())
    assert (got.complete, got.exit_code, got.state) == (True, 0, "finished")
    assert [(alert.title, alert.text, alert.level) for alert in state.alerts] == [("a title", "a text", "WARN")]
    assert state.unserved == []


def test_exit_code_gives_the_state(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import wandb
run = wandb.init(project="p", id="failed")
run.finish(exit_code=3)
run = wandb.init(project="p", id="preempted")
run.mark_preempting()
run.config.update({"saved": 1})
run.finish(exit_code=1)
"""
    run(wandb_server, tmp_path, code)
    failed, preempted = wandb_server.state.run("failed"), wandb_server.state.run("preempted")
    assert (failed.exit_code, failed.state, failed.preempting) == (3, "failed", False)
    assert (preempted.exit_code, preempted.state, preempted.preempting) == (1, "preempted", True)


def test_a_killed_client_counts_as_crashed(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import wandb, time
run = wandb.init(project="p", id="r1")
for step in range(600):
    run.log({"x": step})
    time.sleep(0.1)
"""
    process = start(wandb_server, tmp_path, code)
    try:
        wandb_server.state.wait_for(lambda state: state.runs and len(state.run("r1").history) > 5)
    finally:
        kill(process)
    got = wandb_server.state.run("r1")
    assert (got.complete, got.exit_code) == (False, None)
    assert got.state == "running"
    got.crash_after = -1.0
    assert got.state == "crashed"


def test_resumed_run_continues(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import sys, wandb
resume, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
run = wandb.init(project="p", id="r1", resume=resume, config={"last": last})
print(run.resumed, run.starting_step, dict(run.summary).get("x"))
for step in range(first, last):
    run.log({"x": step}, step=step)
run.finish()
"""

    def client(resume: str, first: int, last: int, ends: int = 0) -> str:
        command = ["-c", code, resume, str(first), str(last)]
        return run(wandb_server, tmp_path, command, code=ends)

    client("must", 0, 3, ends=1)
    assert wandb_server.state.runs == {}
    assert client("allow", 0, 5).split() == ["False", "0", "None"]
    # The run has steps 3 and 4 already: the client drops them.
    assert client("must", 3, 8).split() == ["True", "5", "4"]
    got = wandb_server.state.run("r1")
    assert steps(wandb_server, "r1") == list(range(8))
    assert [row["x"] for row in got.history] == list(range(8))
    assert (got.resumed, got.complete, got.exit_code, got.summary["x"]) == (1, True, 0, 7)
    assert client("allow", 8, 9).split() == ["True", "8", "7"]
    assert (steps(wandb_server, "r1"), got.resumed) == (list(range(9)), 2)
    client("never", 9, 10, ends=1)
    assert len(got.history) == 9


def test_writers_in_shared_mode_share_a_run(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import sys, time, wandb
rank = int(sys.argv[1])
settings = wandb.Settings(x_primary=rank == 0, x_label=f"rank{rank}", x_update_finish_state=rank == 0)
run = wandb.init(project="p", id="r1", mode="shared", config={f"rank{rank}": rank}, settings=settings)
for i in range(5):
    run.log({f"loss/{rank}": i})
    time.sleep(0.3)
run.summary[f"done/{rank}"] = True
print("rank", rank, "is done")
run.finish()
"""
    clients = [start(wandb_server, tmp_path, ["-c", code, str(rank)]) for rank in range(3)]
    for client in clients:
        finish(client)
    got = wandb_server.state.run("r1")
    assert len(got.clients) == 3
    for rank in range(3):
        assert [row[f"loss/{rank}"] for row in got.history if f"loss/{rank}" in row] == list(range(5))
        assert any(f"[rank{rank}]" in line for line in got.console)
    assert len(got.history) == 15
    assert got.config == {"rank0": 0, "rank1": 1, "rank2": 2}
    assert all(got.summary[f"done/{rank}"] for rank in range(3))
    assert (got.complete, got.exit_code) == (True, 0)
    sent = [request for request in wandb_server.state.requests if request.operation == "file_stream"]
    assert all(request.headers["x-wandb-use-async-filestream"] == "true" for request in sent)
    assert {request.headers["x-wandb-async-client-id"] for request in sent} == set(got.clients)
    code = """
import wandb
print([row["_step"] for row in wandb.Api().run("p/r1").scan_history()])
"""
    assert json.loads(run(wandb_server, tmp_path, code)) == list(range(15))


def test_offline_run_is_synced(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import os, wandb
run = wandb.init(project="p", id="r1", mode="offline", config={"lr": 1})
for step in range(0, 20, 2):
    run.log({"loss": step}, step=step)
print("an offline line")
artifact = wandb.Artifact("data", "dataset")
with artifact.new_file("a.txt") as file:
    file.write("from offline")
run.log_artifact(artifact, aliases=["best"])
run.alert("offline", "text")
folder = os.path.dirname(run.dir)
run.finish(exit_code=2)
with open("folder", "w") as file:
    file.write(folder)
"""
    run(wandb_server, tmp_path, code)
    assert wandb_server.state.runs == {}
    folder = (tmp_path / "folder").read_text()
    run(wandb_server, tmp_path, ["-m", "wandb", "sync", folder])
    state = wandb_server.state
    got = state.run("r1")
    assert steps(wandb_server, "r1") == list(range(0, 20, 2))
    assert (got.config, got.exit_code, got.complete, got.summary["loss"]) == ({"lr": 1}, 2, True, 18)
    assert any(line.endswith("an offline line") for line in got.console)
    assert state.collection("data").aliases == {"best": "v0", "latest": "v0"}
    assert state.file("data", "best", "a.txt") == b"from offline"
    assert [alert.title for alert in state.alerts] == ["offline"]
    assert state.unserved == []


def test_sweep_is_read_back(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import wandb
config = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"lr": {"values": [0.1]}}}
name = wandb.sweep(config, project="p")
sweep = wandb.Api().sweep(f"{wandb.Api().default_entity}/p/{name}")
print(sweep.config == config, sweep.name == name)
try:
    wandb.Api().sweep(f"{wandb.Api().default_entity}/p/another")
except wandb.errors.CommError as error:
    print("none" if "Could not find" in str(error) else error)
"""
    assert run(wandb_server, tmp_path, code).splitlines()[-2:] == ["True True", "none"]
    assert wandb_server.state.unserved == []
