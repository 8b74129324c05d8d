"""The faults of the test server, with the real wandb client."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.support.server_calls import first_line, steps
from tests.wandb_server import WandbServer
from tests.wandb_server.client import finish, kill, run, start

OUTAGE = """
import os, time, wandb
run = wandb.init(project="p", id="r1")
def rows(first, last, wait):
    for step in range(first, last):
        run.log({"x": step}, step=step)
    while not os.path.exists(wait):
        time.sleep(0.05)
rows(0, 10, "during")
rows(10, 30, "after")
rows(30, 40, "after")
artifact = wandb.Artifact("model", "model")
with artifact.new_file("a.txt") as file:
    file.write("text " * 1000)
print(run.log_artifact(artifact).wait().version)
run.finish()
"""


@pytest.mark.parametrize("mode", ["refuse", "http_500", "http_429", "hang", "slow", "reset", "drop"])
def test_outage_during_a_run_loses_nothing(wandb_server: WandbServer, tmp_path: Path, mode: str) -> None:
    server, state = wandb_server, wandb_server.state
    process = start(server, tmp_path, OUTAGE)
    try:
        state.wait_for(lambda state: state.runs and len(state.run("r1").history) >= 9)
        if mode == "drop":
            server.faults.drop_every(6)
        else:
            server.faults.set(mode)
        (tmp_path / "during").touch()
        if mode == "refuse":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", server.port), 5)
            time.sleep(2)
        else:
            state.wait_for(lambda state: any(request.fault for request in state.requests), 20)
            time.sleep(1.5)
        if mode != "drop":
            server.faults.clear()
        (tmp_path / "after").touch()
        assert finish(process) == "v0\n"
    finally:
        kill(process)
    assert steps(server, "r1") == list(range(40))
    assert [row["x"] for row in state.run("r1").history] == list(range(40))
    assert (state.run("r1").complete, state.run("r1").exit_code) == (True, 0)
    assert [version.name for version in state.collection("model").versions] == ["v0"]
    assert state.file("model", "v0", "a.txt") == b"text " * 1000
    assert mode == "refuse" or any(request.fault for request in state.requests)


def test_broken_init_fails_and_a_run_is_stopped(tmp_path: Path) -> None:
    """One test for all, because each of these clients only waits, for about 15 s."""
    init = """
import wandb
try:
    wandb.init(project="p", settings=wandb.Settings(init_timeout=3))
except wandb.errors.Error as error:
    print(type(error).__name__)
"""
    stop = """
import time, wandb
run = wandb.init(project="p", id="r1")
wandb.Api().run("p/r1").stop()
try:
    time.sleep(40)
except KeyboardInterrupt:
    print("stopped")
run.finish()
"""
    servers = {mode: WandbServer().start() for mode in ("http_500", "hang", "refuse", "none")}
    clients = {}
    try:
        for mode, server in servers.items():
            server.faults.set(mode)
            (tmp_path / mode).mkdir()
            clients[mode] = start(server, tmp_path / mode, stop if mode == "none" else init)
        assert finish(clients.pop("none")) == "stopped\n"
        for mode, client in clients.items():
            assert first_line(finish(client)) == "CommError", mode
            assert servers[mode].state.runs == {}
    finally:
        for server in servers.values():
            server.stop()
        for client in clients.values():
            kill(client)


def test_finish_times_out_on_a_hanging_server(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import time, wandb
run = wandb.init(project="p", id="r1", settings=wandb.Settings(finish_timeout=3, finish_timeout_raises=True))
run.log({"x": 1})
open("ready", "w").close()
while not __import__("os").path.exists("go"):
    time.sleep(0.05)
try:
    run.finish()
except TimeoutError:
    print("timed out")
"""
    process = start(wandb_server, tmp_path, code)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.05)
    wandb_server.faults.set("hang", only="file_stream")
    (tmp_path / "go").touch()
    assert finish(process) == "timed out\n"
    assert not wandb_server.state.run("r1").complete


def test_denied_operations_fail(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import wandb
run = wandb.init(project="p", id="r1")
artifact = wandb.Artifact("model", "model")
with artifact.new_file("a.txt") as file:
    file.write("text")
run.log_artifact(artifact)
try:
    artifact.wait(timeout=20)
except Exception as error:
    print(type(error).__name__)
run.log({"x": 1})
run.finish()
"""
    wandb_server.faults.deny("CreateArtifact")
    wandb_server.faults.deny("CreateRunFiles")
    assert run(wandb_server, tmp_path, code) == "ValueError\n"
    got = wandb_server.state.run("r1")
    assert (len(got.history), got.exit_code, got.files) == (1, 0, {})
    assert wandb_server.state.collections == {}
    wandb_server.faults.allow("CreateArtifact")
    wandb_server.faults.deny("UpsertBucket", status=403)
    code = "import wandb\ntry: wandb.init(project='p', id='r2')\nexcept wandb.errors.CommError: print('denied')"
    assert first_line(run(wandb_server, tmp_path, code)) == "denied"
    assert "r2" not in "".join(wandb_server.state.runs)


def test_wrong_key_is_rejected(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = "import wandb\ntry: wandb.init(project='p')\nexcept wandb.errors.Error as error: print(type(error).__name__)"
    assert first_line(run(wandb_server, tmp_path, code, env={"WANDB_API_KEY": "f" * 40})) == "CommError"
    assert wandb_server.state.runs == {}
    assert {request.status for request in wandb_server.state.requests} == {401}
