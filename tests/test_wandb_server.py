"""The test server against the real wandb client, each client in a process of its own."""

from __future__ import annotations

import base64
import importlib
import json
import math
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.wandb_server import WandbServer
from tests.wandb_server.artifacts import digest_hex
from tests.wandb_server.client import finish, kill, run, start
from tests.wandb_server.document import parse

pytestmark = pytest.mark.timeout(60)


def steps(server: WandbServer, run_id: str) -> list[int]:
    return [row["_step"] for row in server.state.run(run_id).history]


def first_line(printed: str) -> str:
    """Behind a failed init the client itself prints on stdout, where its logs are."""
    return printed.splitlines()[0]


def post(server: WandbServer, path: str, body: dict[str, Any], key: str = "") -> Any:
    """A request made by hand."""
    token = base64.b64encode(f"api:{key or server.api_key}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        error.close()
        raise


def upsert(server: WandbServer, run_id: str) -> None:
    query = "mutation UpsertBucket($n: String) { upsertBucket(input: {name: $n, modelName: p}) { inserted } }"
    post(server, "/graphql", {"query": query.replace("modelName: p", 'modelName: "p"'), "variables": {"n": run_id}})


# ---- What a run sends -------------------------------------------------------------------------------------------


def test_a_run(wandb_server: WandbServer, tmp_path: Path) -> None:
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


def test_exit_code_and_preemption(wandb_server: WandbServer, tmp_path: Path) -> None:
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
    time.sleep(1.5)
    got = wandb_server.state.run("r1")
    assert (got.complete, got.exit_code) == (False, None)
    assert got.state == "running"
    got.crash_after = 1.0
    assert got.state == "crashed"


# ---- Resume, shared mode, offline ---------------------------------------------------------------------------------


def test_resume(wandb_server: WandbServer, tmp_path: Path) -> None:
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
        command = [sys.executable, "-c", code, resume, str(first), str(last)]
        return run(wandb_server, tmp_path, command, code=ends)

    client("must", 0, 3, ends=1)
    assert wandb_server.state.runs == {}
    assert client("allow", 0, 5).split() == ["False", "0", "None"]
    # Steps 3 and 4 are there already: the client drops them.
    assert client("must", 3, 8).split() == ["True", "5", "4"]
    got = wandb_server.state.run("r1")
    assert steps(wandb_server, "r1") == list(range(8))
    assert [row["x"] for row in got.history] == list(range(8))
    assert (got.resumed, got.complete, got.exit_code, got.summary["x"]) == (1, True, 0, 7)
    assert client("allow", 8, 9).split() == ["True", "8", "7"]
    assert (steps(wandb_server, "r1"), got.resumed) == (list(range(9)), 2)
    client("never", 9, 10, ends=1)
    assert len(got.history) == 9


def test_shared_mode(wandb_server: WandbServer, tmp_path: Path) -> None:
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
    clients = [start(wandb_server, tmp_path, [sys.executable, "-c", code, str(rank)]) for rank in range(3)]
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


def test_sync_of_an_offline_run(wandb_server: WandbServer, tmp_path: Path) -> None:
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
    run(wandb_server, tmp_path, [str(Path(sys.executable).with_name("wandb")), "sync", folder])
    state = wandb_server.state
    got = state.run("r1")
    assert steps(wandb_server, "r1") == list(range(0, 20, 2))
    assert (got.config, got.exit_code, got.complete, got.summary["loss"]) == ({"lr": 1}, 2, True, 18)
    assert any(line.endswith("an offline line") for line in got.console)
    assert state.collection("data").aliases == {"best": "v0", "latest": "v0"}
    assert state.file("data", "best", "a.txt") == b"from offline"
    assert [alert.title for alert in state.alerts] == ["offline"]
    assert state.unserved == []


# ---- Artifacts ------------------------------------------------------------------------------------------------------

ARTIFACTS = """
import wandb
run = wandb.init(project="p", id="r1")
def log(text, aliases):
    artifact = wandb.Artifact("model", "model", metadata={"text": text})
    for name, content in {"fixed.txt": "same in all versions", "sub/own.txt": text}.items():
        with artifact.new_file(name) as file:
            file.write(content)
    return run.log_artifact(artifact, aliases=aliases).wait()
print([log(text, aliases).version for text, aliases in %s])
run.finish()
"""


def test_artifact_versions_and_aliases(wandb_server: WandbServer, tmp_path: Path) -> None:
    versions = [("one", ["best"]), ("two", ["best", "step-2"]), ("two", ["again"]), ("three", ["step-3"])]
    assert run(wandb_server, tmp_path, ARTIFACTS % versions) == "['v0', 'v1', 'v1', 'v2']\n"
    state = wandb_server.state
    collection = state.collection("model")
    # The second "two" has the digest of v1: no new version, but its alias arrives.
    assert collection.aliases == {"best": "v1", "step-2": "v1", "again": "v1", "step-3": "v2", "latest": "v2"}
    assert [version.metadata for version in collection.live] == [{"text": "one"}, {"text": "two"}, {"text": "three"}]
    assert state.file("model", "best", "sub/own.txt") == b"two"
    assert state.file("model", "v0", "fixed.txt") == b"same in all versions"
    assert len([key for key in state.blobs if key.startswith(collection.live[2].id)]) == 1, "fixed.txt sent again"
    assert set(state.run("r1").output_artifacts) == {version.id for version in collection.live}

    code = """
import wandb
api = wandb.Api()
print([artifact.name for artifact in api.run("p/r1").logged_artifacts()])
old = api.artifact("p/model:v0")
print(old.aliases, open(old.download("old") + "/sub/own.txt").read(), old.logged_by().id)
best = api.artifact("p/model:best", type="model")
print(best.version, sorted(best.aliases), best.metadata, best.get_entry("sub/own.txt").size)
best.aliases.remove("step-2"); best.aliases.append("good"); best.metadata["note"] = 1; best.tags = ["kept"]
best.save()
old.delete()
try:
    best.delete()
except wandb.errors.CommError:
    print("has aliases")
api.artifact("p/model:latest").delete(delete_aliases=True)
print(api.artifact_exists("p/model:v0"), api.artifact_exists("p/model:latest"), api.artifact_exists("p/model:good"))
print([version.version for version in api.artifacts("model", "p/model")])
run = wandb.init(project="p", id="user")
print(open(run.use_artifact("model:good").download("good") + "/fixed.txt").read())
run.finish()
print([artifact.name for artifact in api.run("p/user").used_artifacts()])
"""
    assert run(wandb_server, tmp_path, code).splitlines() == [
        "['model:v0', 'model:v1', 'model:v2']",
        "[] one r1",
        "v1 ['again', 'best', 'step-2'] {'text': 'two'} 3",
        "has aliases",
        "False False True",
        "['v1']",
        "same in all versions",
        "['model:v1']",
    ]
    assert collection.aliases == {"best": "v1", "again": "v1", "good": "v1"}
    assert [version.deleted for version in collection.versions] == [True, False, True]
    assert set(collection.versions[2].aliases_before_deletion) == {"step-3", "latest"}
    assert (collection.live[0].metadata, collection.live[0].tags) == ({"text": "two", "note": 1}, ["kept"])
    # The index of a deleted version is not used again.
    assert run(wandb_server, tmp_path, ARTIFACTS % [("four", [])]) == "['v3']\n"
    assert state.unserved == []


def test_tables_references_and_increments(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import os, wandb
run = wandb.init(project="p", id="r1")
run.log({"table": wandb.Table(columns=["a", "b"], data=[[1, 2], [3, 4]])})
with open("weights.bin", "wb") as file:
    file.write(os.urandom(3_000_000))
model = wandb.Artifact("model", "model", description="text")
model.add_file("weights.bin", policy="immutable", skip_cache=True)
model.add_reference("file://" + os.path.abspath("weights.bin"), name="reference")
print(run.log_artifact(model).wait().file_count)
for name in ("first", "second"):
    part = wandb.Artifact("parts", "dataset", incremental=True)
    with part.new_file(name) as file:
        file.write(name)
    print(sorted(run.log_artifact(part).wait().manifest.entries))
run.finish()
collection = wandb.Api().artifact_collection("model", "p/model")
collection.description = "all models"
collection.save()
collection.delete()
"""
    assert run(wandb_server, tmp_path, code).splitlines()[:3] == ["2", "['first']", "['first', 'second']"]
    state = wandb_server.state
    model = state.collection("model")
    assert (model.description, model.deleted, model.versions[0].deleted) == ("all models", True, True)
    contents = model.versions[0].contents
    assert contents["reference"]["ref"] == f"file://{tmp_path}/weights.bin"
    assert (
        state.blobs[f"{model.versions[0].id}/{digest_hex(contents['weights.bin']['digest'])}"]
        == (tmp_path / "weights.bin").read_bytes()
    )
    table = state.run("r1").history[0]["table"]
    assert json.loads(state.run("r1").files[table["path"]].data or b"")["data"] == [[1, 2], [3, 4]]
    assert state.file("run-r1-table", "latest", "table.table.json")
    assert state.unserved == []


def test_a_server_without_new_features(tmp_path: Path) -> None:
    code = "import wandb; artifact = wandb.Api().artifact('p/model:best'); print(artifact.download('d'), artifact.size)"
    with WandbServer(features=()) as server:
        run(server, tmp_path, ARTIFACTS % [("one", ["best"])])
        assert run(server, tmp_path, code).split() == ["d", "23"]
        assert (tmp_path / "d" / "sub" / "own.txt").read_text() == "one"
        assert server.state.errors == []


# ---- Reading back ---------------------------------------------------------------------------------------------------


def test_api_reads_back(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import wandb
for number in range(3):
    with wandb.init(project="p", id=f"r{number}", config={"number": number}, tags=["t"]) as run:
        for step in range(40):
            run.log({"loss": float(step), **({"val": step} if step % 10 == 0 else {})})
        print("line one")
        run.summary["score"] = -number
        open("f.txt", "w").write("content"); run.save("f.txt", policy="now")
wandb.init(project="p", id="bad").finish(exit_code=1)
"""
    run(wandb_server, tmp_path, code)
    code = """
import json, wandb
api = wandb.Api()
run = api.run("test-team/p/r2")
def names(**arguments):
    return [found.id for found in api.runs("test-team/p", **arguments)]
print(json.dumps({
    "state": [run.state, api.run("p/bad").state], "config": run.config, "score": run.summary["score"],
    "tags": run.tags, "history": len(run.history(pandas=False)), "samples": len(run.history(10, pandas=False)),
    "frame": list(run.history(keys=["val"]).columns), "scan": [row["loss"] for row in run.scan_history()],
    "scan_val": [row["val"] for row in run.scan_history(keys=["val"], page_size=7)],
    "scan_part": [row["_step"] for row in run.scan_history(min_step=5, max_step=8)],
    "files": sorted(file.name for file in run.files()), "file": run.file("f.txt").download("d").read(),
    "system": len(run.history(stream="system", pandas=False)) > 0, "last": run.lastHistoryStep,
    "console": [line.content for line in run.console_logs()][:1], "host": bool(run.metadata["host"]),
    "all": names(), "failed": names(filters={"state": "failed"}),
    "filtered": names(filters={"$and": [{"config.number": {"$gte": 1}}, {"tags": "t"}]}),
    "ordered": names(order="+summary_metrics.score", per_page=2), "viewer": api.viewer.username,
    "projects": [project.name for project in api.projects()],
}))
run.config["late"] = 1; run.tags.append("new"); run.summary["after"] = 2; run.update()
run.file("f.txt").delete()
api.run("p/bad").delete()
print(len(api.runs("p")))
try:
    api.run("p/nothing")
except (ValueError, wandb.errors.CommError):
    print("not found")
"""
    lines = run(wandb_server, tmp_path, code).splitlines()
    got = json.loads(lines[0])
    assert {key: got[key] for key in ("state", "config", "score", "tags", "history", "samples", "last")} == {
        "state": ["finished", "failed"],
        "config": {"number": 2},
        "score": -2,
        "tags": ["t"],
        "history": 40,
        "samples": 10,
        "last": 39,
    }
    assert (got["scan"], got["scan_val"], got["scan_part"]) == ([*range(40)], [0, 10, 20, 30], [5, 6, 7])
    assert "val" in got["frame"]
    assert {"f.txt", "config.yaml", "wandb-metadata.json", "wandb-summary.json"} <= set(got["files"])
    assert (got["file"], got["system"], got["console"], got["host"]) == ("content", True, ["line one"], True)
    assert (got["all"], got["failed"], got["filtered"]) == (["r0", "r1", "r2", "bad"], ["bad"], ["r1", "r2"])
    assert got["ordered"] == ["r2", "r1", "r0", "bad"]
    assert (got["viewer"], got["projects"]) == ("test-user", ["p"])
    assert lines[1:] == ["3", "not found"]
    changed = wandb_server.state.run("r2")
    assert changed.config == {"number": 2, "late": 1}
    assert (changed.tags, changed.summary["after"], "f.txt" in changed.files) == (["t", "new"], 2, False)
    assert (len(changed.history), changed.state) == (40, "finished")
    assert wandb_server.state.unserved == []


# ---- Faults ---------------------------------------------------------------------------------------------------------

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
def test_outage_in_mid_run_loses_nothing(wandb_server: WandbServer, tmp_path: Path, mode: str) -> None:
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


def test_broken_init_and_a_stopped_run(tmp_path: Path) -> None:
    """In one test because each of these clients only waits, for some 15 s."""
    init = """
import time, wandb
begin = time.monotonic()
try:
    wandb.init(project="p", settings=wandb.Settings(init_timeout=3))
except wandb.errors.Error as error:
    print(type(error).__name__, round(time.monotonic() - begin))
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
            kind, seconds = first_line(finish(client)).split()
            assert kind == "CommError", mode
            assert 2 <= int(seconds) <= 25, mode
            assert servers[mode].state.runs == {}
    finally:
        for server in servers.values():
            server.stop()
        for client in clients.values():
            kill(client)


def test_finish_with_a_hanging_server(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import time, wandb
run = wandb.init(project="p", id="r1", settings=wandb.Settings(finish_timeout=3, finish_timeout_raises=True))
run.log({"x": 1})
open("ready", "w").close()
while not __import__("os").path.exists("go"):
    time.sleep(0.05)
begin = time.monotonic()
try:
    run.finish()
except TimeoutError:
    print(round(time.monotonic() - begin))
"""
    process = start(wandb_server, tmp_path, code)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.05)
    wandb_server.faults.set("hang", only="file_stream")
    (tmp_path / "go").touch()
    assert 2 <= int(finish(process)) <= 8
    assert not wandb_server.state.run("r1").complete


def test_denied_operations(wandb_server: WandbServer, tmp_path: Path) -> None:
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


def test_wrong_key(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = "import wandb\ntry: wandb.init(project='p')\nexcept wandb.errors.Error as error: print(type(error).__name__)"
    assert first_line(run(wandb_server, tmp_path, code, env={"WANDB_API_KEY": "f" * 40})) == "CommError"
    assert wandb_server.state.runs == {}
    assert {request.status for request in wandb_server.state.requests} == {401}


# ---- By hand --------------------------------------------------------------------------------------------------------


def test_chunks_sent_again(wandb_server: WandbServer) -> None:
    upsert(wandb_server, "r1")
    path = "/files/test-team/p/r1/file_stream"

    def send(offset: int, *values: int) -> None:
        lines = [json.dumps({"_step": value}) for value in values]
        post(wandb_server, path, {"files": {"wandb-history.jsonl": {"offset": offset, "content": lines}}})

    send(0, 0, 1)
    send(2, 2, 3)
    send(2, 2, 3, 4)
    send(0, 10)
    assert steps(wandb_server, "r1") == [10, 1, 2, 3, 4]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        post(wandb_server, path, {}, key="wrong")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        post(wandb_server, "/files/test-team/p/unknown/file_stream", {})


def test_gzip_bodies(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = "import wandb\nwith wandb.init(project='p', id='r1') as run:\n    for i in range(300): run.log({'x': i})"
    run(wandb_server, tmp_path, code, env={"WANDB__FILE_STREAM_NO_GZIP": "false"})
    assert steps(wandb_server, "r1") == list(range(300))
    assert any(request.headers.get("content-encoding") == "gzip" for request in wandb_server.state.requests)


def test_faults_on_the_wire(wandb_server: WandbServer) -> None:
    faults, query = wandb_server.faults, {"query": "query Viewer { viewer { username } }"}
    port = wandb_server.port

    def ask() -> Any:
        return post(wandb_server, "/graphql", query)

    expected = {"data": {"viewer": {"username": "test-user"}}}
    assert ask() == expected
    with faults.active("http_500"), pytest.raises(urllib.error.HTTPError, match="500"):
        ask()
    with faults.active("http_429"), pytest.raises(urllib.error.HTTPError, match="429") as caught:
        ask()
    assert caught.value.headers["Retry-After"] == "1"
    with faults.active("reset"), pytest.raises(ConnectionResetError):
        ask()
    upload = urllib.request.Request(f"{wandb_server.url}/storage/blob/a/b", b"x" * 10_000_000, method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with faults.active("reset", only="upload"), pytest.raises((ConnectionError, urllib.error.URLError)):
        opener.open(upload, timeout=10)
    assert wandb_server.state.blobs == {}
    for handled in (False, True):
        faults.drop_every(1, handled=handled)
        with pytest.raises(ConnectionError):
            opener.open(upload, timeout=10)
        assert bool(wandb_server.state.blobs) == handled
    faults.clear()
    with faults.active("refuse"), pytest.raises(urllib.error.URLError, match="refused"):
        ask()
    with faults.active("hang", only="file_stream"):
        assert ask() == expected
    begin = time.monotonic()
    faults.set("slow")
    connection = socket.create_connection(("127.0.0.1", port))
    body = json.dumps(query).encode()
    key = base64.b64encode(f"api:{wandb_server.api_key}".encode()).decode()
    head = f"POST /graphql HTTP/1.1\r\nAuthorization: Basic {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    received = b""
    while b"\r\n\r\n{" not in received:
        received += connection.recv(1)
    assert 0.8 < time.monotonic() - begin < 3
    faults.clear()
    while not received.endswith(b"}}}"):
        received += connection.recv(100)
    connection.close()
    faults.deny("Viewer")
    assert ask()["errors"][0]["message"] == "permission denied"
    faults.clear()
    faults.drop_every(2)
    assert ask() == expected
    with pytest.raises(ConnectionError):
        ask()
    faults.clear()
    assert (ask(), wandb_server.port) == (expected, port)
    with pytest.raises(ValueError, match="unknown fault"):
        faults.set("flood")


def test_all_documents_of_the_client_parse() -> None:
    texts: list[str] = []
    for package in ("wandb.apis", "wandb.automations", "wandb.sdk.artifacts", "wandb.sdk.internal"):
        module = importlib.import_module(f"{package}._generated")
        texts += [getattr(module, name) for name in module.__all__ if name.endswith("_GQL")]
    assert len(texts) > 50
    for text in texts:
        assert parse(text).name in text
    document = parse(
        '{ a: b(x: [1, -2.5e3, "q\\"", {k: $v}, ENUM, null, true]) @include(if: $w) { ...F ... on T { c } } }'
    )
    assert document.selections[0].arguments["x"][1:3] == [-2500.0, 'q"']
    with pytest.raises(ValueError, match="Syntax Error"):
        parse("query { a ")


def test_unknown_fields_are_noted(wandb_server: WandbServer) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(wandb_server, "/graphql", {"query": "query New { viewer { shoeSize } }"})
    assert wandb_server.state.unserved == ['query New: Cannot query field "shoeSize" on type "User".']


def test_started_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.wandb_server", "--watch"]
    root = Path(__file__).resolve().parents[1]
    server = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        env: dict[str, str] = {}
        while line := server.stdout.readline().strip():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                env[name] = value
        with WandbServer() as other:
            code = "import wandb; wandb.init(project='p', id='r1').finish()"
            run(other, tmp_path, code, env=env)
            assert other.state.requests == []
        server.send_signal(signal.SIGINT)
        printed = server.communicate(timeout=10)[0]
    finally:
        server.kill()
        server.wait()
    assert re.search(r"POST UpsertBucket -> 200", printed)
    assert re.search(r"run test-team/p/r1 '[\w-]+': finished, exit code 0", printed)
