"""Checkpoints reach W&B with the right aliases, or the ledger says which did not, and a resume brings them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import HANG_S, ROOT
from tests.support.saving import states
from tests.support.warm import Process
from tests.wandb_server import WandbServer
from tests.wandb_server.artifacts import Collection, Version
from tests.wandb_server.client import finish, start
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import read_ledger

pytestmark = pytest.mark.timeout(180)

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from tests.support.saving import Saver
from trackkit.notices import ensure_heard
ensure_heard()
def wait_for_file(name):
    while not Path(name).exists():
        time.sleep(0.02)
def run(**options):
    return Saver(Path("out").absolute(), "online", **{"finish_timeout": 10.0, **options})
"""
DONE = ("committed", "skipped", "deleted", "lost", "overwritten")


def begin(server: WandbServer, home: Path, code: str) -> Process:
    return start(server, home, PRELUDE + code, {"PYTHONPATH": str(ROOT), "TRACKKIT_INDEX": "/dev/null"})


def run(server: WandbServer, home: Path, code: str) -> Process:
    process = begin(server, home, code)
    finish(process)
    return process


def entries(home: Path) -> list[Entry]:
    return read_ledger(home / "out" / "_trackkit" / "run")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def versions(server: WandbServer, name: str = "model-toy") -> dict[str, list[str]]:
    """Returns the file of each live version to its aliases."""
    collection: Collection = server.state.collection(name)
    return {next(iter(version.contents)): sorted(version.aliases) for version in collection.live}


def server_states(server: WandbServer, name: str = "model-toy") -> list[str]:
    """Returns the states of all versions, those that were deleted included."""
    return [version.state for version in server.state.collection(name).versions]


def test_versions_aliases_and_metadata(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
saver = run(name="Größe 1, two words", keep=2)
for step, value in enumerate([3.0, 1.0, 2.0, float("nan"), 5.0, 4.0]):
    saver.save(step, value, series="val_loss").unlink()
    saver.wait_for("committed", "deleted")
saver.save(7, 0.5, path="s3://me:pw7K@bucket/runs/last.ckpt?X-Amz-Signature=a1b2", series="remote")
saver.close()
"""
    run(wandb_server, tmp_path, code)
    name = entries(tmp_path)[0].collection
    assert name.startswith("model-Gr-e-1-two-words-val_loss-")
    assert versions(wandb_server, name) == {
        "step=0.ckpt": ["step-0", "was-best"],
        "step=1.ckpt": ["best", "step-1"],
        "step=4.ckpt": ["step-4"],
        "step=5.ckpt": ["latest", "step-5"],
    }
    best: Version = wandb_server.state.collection(name).find("best")  # type: ignore[assignment]
    assert best.metadata.pop("saved") > 0
    assert best.metadata == {
        "step": 1,
        "epoch": 0.1,
        "metric": "val_loss",
        "value": 1.0,
        "goal": "min",
        "framework": "lightning",
        "resumable": True,
        "files": {"step=1.ckpt": 9},
        "git_commit": "c0ffee",
    }
    assert best.digest == entries(tmp_path)[1].digest
    assert wandb_server.state.file(name, "best", "step=1.ckpt") == b"weights 1"
    remote = wandb_server.state.collection(entries(tmp_path)[6].collection)
    assert remote.live[0].contents["last.ckpt"]["ref"] == "s3://bucket/runs/last.ckpt"
    assert sorted(remote.live[0].aliases) == ["best", "latest", "step-7"]
    assert entries(tmp_path)[6].path == "s3://bucket/runs/last.ckpt"
    assert states(entries(tmp_path))[3] == "deleted"
    assert not (tmp_path / "out" / "_trackkit" / "run" / "checkpoints").exists()
    assert wandb_server.state.unserved == []


def test_uploads_that_end_in_any_order_leave_the_right_aliases(wandb_server: WandbServer, tmp_path: Path) -> None:
    """At the end of a run all that waits is handed over at once; here the biggest is the oldest."""
    code = """
saver = run(finish_timeout=60.0)
for step, (value, size) in enumerate([(1.0, 3_000_000), (2.0, 10), (3.0, 10)]):
    saver.save(step, value, bytes([step]) * size)
open("saved", "w").close()
saver.close()
"""
    wandb_server.faults.set("hang", only="upload")
    process = begin(wandb_server, tmp_path, code)
    wait_until((tmp_path / "saved").exists)
    time.sleep(2.0)
    wandb_server.faults.clear()
    finish(process)
    assert versions(wandb_server) == {
        "step=0.ckpt": ["best", "step-0"],
        "step=1.ckpt": ["step-1"],
        "step=2.ckpt": ["latest", "step-2"],
    }


def test_refused_artifact_is_uploaded_by_the_next_attempt(wandb_server: WandbServer, tmp_path: Path) -> None:
    wandb_server.faults.deny("CreateArtifact")
    process = run(wandb_server, tmp_path, "saver = run()\nsaver.save(1, 0.5)\nsaver.save(2, 0.7)\nsaver.close()")
    assert set(states(entries(tmp_path)).values()) <= {"hashed", "handed over"}
    assert "W&B does not have the checkpoints of steps 1, 2 yet. Upload with `trackkit sync" in process.stderr
    wandb_server.faults.allow("CreateArtifact")
    run(wandb_server, tmp_path, "saver = run()\nsaver.wait_for('committed')\nsaver.close()")
    assert versions(wandb_server) == {"step=1.ckpt": ["best", "step-1"], "step=2.ckpt": ["latest", "step-2"]}


def test_checkpoint_that_wandb_cannot_take_is_left_and_holds_up_no_other(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    """A name that wandb refuses before it asks the server, from a ledger that was changed."""
    code = """
saver = run()
with saver.store.ledger.lock:
    saver.save(1)
    saver.store.ledger.change(1, collection="no/name")
saver.save(2)
while saver.store.ledger[2].state != "committed":
    time.sleep(0.05)
saver.close()
"""
    process = run(wandb_server, tmp_path, code)
    assert states(entries(tmp_path)) == {1: "hashed", 2: "committed"}
    assert entries(tmp_path)[0].reason.startswith("refused: Artifact name")
    assert "W&B does not have the checkpoint of step 1 yet." in process.stderr


def test_checkpoints_outlive_wandb_core(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
def kill_core():
    for path in Path("/proc").glob("[0-9]*/stat"):
        name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        if name.startswith("wandb-core") and int(rest.split()[1]) == os.getpid():
            os.kill(int(path.parent.name), signal.SIGKILL)
saver = run(finish_timeout=3.0)
saver.save(1, 0.9)
saver.wait_for("committed")
kill_core()
for step in (2, 3):
    saver.save(step, 1.0 / step).unlink()
saver.close()
"""
    began = time.monotonic()
    process = run(wandb_server, tmp_path, code)
    assert time.monotonic() - began < 60
    assert states(entries(tmp_path))[1] == "committed"
    assert {states(entries(tmp_path))[step] for step in (2, 3)} <= {"hashed", "handed over"}
    assert "W&B does not have the checkpoints of steps 2, 3 yet." in process.stderr
    run(wandb_server, tmp_path, "saver = run()\nsaver.wait_for('committed')\nsaver.close()")
    assert versions(wandb_server) == {
        "step=1.ckpt": ["step-1"],
        "step=2.ckpt": ["step-2", "was-best"],
        "step=3.ckpt": ["best", "latest", "step-3"],
    }


@pytest.mark.parametrize("fault", ["refuse", "hang"])
def test_network_that_is_gone_delays_neither_saves_nor_the_end(
    wandb_server: WandbServer, tmp_path: Path, fault: str
) -> None:
    code = """
saver = run(finish_timeout=3.0)
open("begun", "w").close()
wait_for_file("go")
began = time.monotonic()
for step in range(5):
    saver.save(step, 1.0 / (step + 1)).unlink()
saves = time.monotonic() - began
saver.close()
print(saves, time.monotonic() - began)
"""
    process = begin(wandb_server, tmp_path, code)
    wait_until((tmp_path / "begun").exists)
    wandb_server.faults.set(fault)
    (tmp_path / "go").touch()
    saves, took = map(float, finish(process).split()[-2:])
    assert (saves < 2, took < 15) == (True, True), (saves, took)
    kept = {each.step for each in entries(tmp_path) if each.is_present}
    assert kept >= {2, 3, 4}
    wandb_server.faults.clear()
    run(wandb_server, tmp_path, f"saver = run()\nsaver.wait_for(*{DONE!r})\nsaver.close()")
    assert versions(wandb_server)["step=4.ckpt"] == ["best", "latest", "step-4"]
    assert versions(wandb_server)["step=3.ckpt"] == ["step-3", "was-best"]


@pytest.mark.parametrize("operation", ["upload", "CommitArtifact"])
def test_sigkill_in_mid_upload_loses_nothing(wandb_server: WandbServer, tmp_path: Path, operation: str) -> None:
    code = """
saver = run()
saver.save(1, 0.9)
saver.wait_for("committed")
wait_for_file("go")
for step in (2, 3):
    saver.save(step, 1.0 / step).unlink()
time.sleep(300)
"""
    process = begin(wandb_server, tmp_path, code)
    wait_until(lambda: states(entries(tmp_path)).get(1) == "committed")
    wandb_server.faults.set("hang", only=operation)
    (tmp_path / "go").touch()
    wait_until(lambda: states(entries(tmp_path)).get(2) == "handed over" and 3 in states(entries(tmp_path)))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2.0)
    wandb_server.faults.clear()
    assert "PENDING" in server_states(wandb_server)
    run(wandb_server, tmp_path, "saver = run()\nsaver.wait_for('committed')\nsaver.close()")
    assert versions(wandb_server) == {
        "step=1.ckpt": ["step-1"],
        "step=2.ckpt": ["step-2", "was-best"],
        "step=3.ckpt": ["best", "latest", "step-3"],
    }
    assert sorted(server_states(wandb_server)) == ["COMMITTED"] * 3 + ["DELETED"]


def test_file_rewritten_in_mid_upload_leaves_no_version(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
saver = run()
saver.save(1, 0.5, b"one")
saver.wait_for("committed")
wait_for_file("go")
path = saver.save(2, 0.1, b"two")
saver.wait_for("handed over", "committed")
path.write_bytes(b"another model")
open("rewritten", "w").close()
saver.wait_for("overwritten", "committed")
saver.close()
"""
    process = begin(wandb_server, tmp_path, code)
    wait_until(lambda: states(entries(tmp_path)).get(1) == "committed")
    wandb_server.faults.set("hang", only="CommitArtifact")
    (tmp_path / "go").touch()
    wait_until((tmp_path / "rewritten").exists)
    wandb_server.faults.clear()
    finish(process)
    assert states(entries(tmp_path)) == {1: "committed", 2: "overwritten"}
    assert (
        "The checkpoint of step 2 is not at W&B: 'step=2.ckpt' was rewritten while it was uploaded." in process.stderr
    )
    assert versions(wandb_server) == {"step=1.ckpt": ["best", "latest", "step-1"]}


def test_used_and_promoted_versions_are_never_deleted(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import wandb
saver = run(keep=1, promote="staging")
for step in range(3):
    saver.save(step, step)
    saver.wait_for("committed", "deleted")
    if step == 1:
        api = wandb.Api()
        artifact = api.artifact("p/model-toy:step-1")
        artifact.aliases.append("production")
        artifact.save()
for step in range(3, 5):
    saver.save(step, 10.0)
    saver.wait_for("committed", "deleted")
    if step == 3:
        with wandb.init(project="p", id="other", reinit="create_new", mode="online") as other:
            other.use_artifact("model-toy:step-3")
saver.close()
"""
    run(wandb_server, tmp_path, code)
    assert versions(wandb_server) == {
        "step=0.ckpt": ["best", "staging", "step-0"],
        "step=1.ckpt": ["production", "step-1"],
        "step=3.ckpt": ["step-3"],
        "step=4.ckpt": ["latest", "step-4"],
    }
    assert [each.step for each in entries(tmp_path) if each.used] == [3]
