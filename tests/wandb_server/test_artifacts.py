"""The test server with the real wandb client: artifacts, and what wandb.Api reads back."""

from __future__ import annotations

import json
from pathlib import Path

from tests.wandb_server import WandbServer
from tests.wandb_server.artifacts import digest_hex
from tests.wandb_server.client import run

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


def test_versions_and_aliases_are_kept(wandb_server: WandbServer, tmp_path: Path) -> None:
    versions = [("one", ["best"]), ("two", ["best", "step-2"]), ("two", ["again"]), ("three", ["step-3"])]
    assert run(wandb_server, tmp_path, ARTIFACTS % versions) == "['v0', 'v1', 'v1', 'v2']\n"
    state = wandb_server.state
    collection = state.collection("model")
    # The second "two" has the digest of v1: it makes no new version, but its alias is added.
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
    # The index of a deleted version is not reused.
    assert run(wandb_server, tmp_path, ARTIFACTS % [("four", [])]) == "['v3']\n"
    assert state.unserved == []


def test_tables_references_and_increments_are_stored(wandb_server: WandbServer, tmp_path: Path) -> None:
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


def test_client_works_with_a_server_without_new_features(tmp_path: Path) -> None:
    code = "import wandb; artifact = wandb.Api().artifact('p/model:best'); print(artifact.download('d'), artifact.size)"
    with WandbServer(features=()) as server:
        run(server, tmp_path, ARTIFACTS % [("one", ["best"])])
        assert run(server, tmp_path, code).split() == ["d", "23"]
        assert (tmp_path / "d" / "sub" / "own.txt").read_text() == "one"
        assert server.state.errors == []


def test_api_reads_everything_back(wandb_server: WandbServer, tmp_path: Path) -> None:
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


def test_links_and_their_aliases_are_kept(wandb_server: WandbServer, tmp_path: Path) -> None:
    run(wandb_server, tmp_path, ARTIFACTS % [("one", []), ("two", [])])
    code = """
import wandb
api = wandb.Api()
for version in ("v1", "v0"):
    linked = api.artifact(f"p/model:{version}").link("wandb-registry-model/resnet", ["staging"])
    print(linked.qualified_name, sorted(linked.aliases), linked.source_name)
found = api.artifact("test-team-org/wandb-registry-model/resnet:staging")
print(found.source_name, found.is_link)
"""
    assert run(wandb_server, tmp_path, code).splitlines() == [
        "test-team-org/wandb-registry-model/resnet:v0 ['latest', 'staging'] model:v1",
        "test-team-org/wandb-registry-model/resnet:v1 ['latest', 'staging'] model:v0",
        "model:v0 True",
    ]
    assert wandb_server.state.unserved == []
