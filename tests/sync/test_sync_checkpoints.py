"""A sync uploads the checkpoints that the server lacks, and sets their aliases: offline, after an outage and a kill."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT
from tests.support.saving import states
from tests.support.syncing import finish_sync, start_sync, sync, wait_for
from tests.wandb_server import WandbServer
from tests.wandb_server.client import finish, kill, start
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import Ledger, read_ledger
from trackkit.checkpoints.staging import Staging

pytestmark = pytest.mark.timeout(180)

SAVE = """
import os, signal
from pathlib import Path
from tests.support.saving import Saver
saver = Saver(Path("out").absolute(), {mode!r}, finish_timeout={timeout}, {more})
for step, value in enumerate([3.0, 1.0, 2.0, float("nan"), 5.0, 4.0]):
    saver.save(step, value).unlink()
"""
ALIASES = {
    "step=0.ckpt": ["step-0", "was-best"],
    "step=1.ckpt": ["best", "step-1"],
    "step=3.ckpt": ["step-3"],
    "step=4.ckpt": ["step-4"],
    "step=5.ckpt": ["latest", "step-5"],
}


# Two runs of one collection; each may wait for a file before it saves, or before it ends.
MEMBER = """
import sys, time
from pathlib import Path
from tests.support.saving import Saver
saver = Saver(Path({run_id!r}).absolute(), {mode!r}, run_id={run_id!r}, finish_timeout=10.0, keep=1)
for step, value in {saves!r}:
    time.sleep(0.02)
    saver.save(step, value, b"{run_id} %d" % step, monitor={monitor!r}, goal="min")
    if {mode!r} == "online":
        saver.wait_for("committed", "deleted")
saver.close()
"""
# Saves while `--watch` follows it.
SAVING = """
import time
from pathlib import Path
from tests.support.saving import Saver
saver = Saver(Path("out").absolute(), "offline", finish_timeout=10.0)
Path("begun").touch()
for step, value in enumerate([3.0, 1.0, 2.0, float("nan"), 5.0, 4.0]):
    saver.save(step, value).unlink()
    time.sleep(0.5)
saver.close()
"""


def save(
    server: WandbServer, home: Path, end: str, mode: str = "offline", timeout: float = 10.0, more: str = ""
) -> None:
    env = {"PYTHONPATH": str(ROOT), "TRACKKIT_INDEX": "/dev/null"}
    process = start(server, home, SAVE.format(mode=mode, timeout=timeout, more=more) + end, env)
    finish(process, None)


def entries(home: Path) -> list[Entry]:
    return read_ledger(home / "out" / "_trackkit" / "run")


def versions(server: WandbServer) -> dict[str, list[str]]:
    """Returns the file of each live version to its aliases."""
    live = server.state.collection("model-toy").live
    return {next(iter(version.contents)): sorted(version.aliases) for version in live}


def assert_complete(server: WandbServer, home: Path) -> None:
    printed = sync(server, home, home / "out")
    assert re.search(r"^run +0 .* 5/5 +complete$", printed, re.MULTILINE), printed
    assert versions(server) == ALIASES
    assert server.state.file("model-toy", "best", "step=1.ckpt") == b"weights 1"
    assert set(states(entries(home)).values()) <= {"committed", "skipped", "deleted"}
    assert Staging(home / "out" / "_trackkit" / "run").numbers() == []


def test_checkpoints_of_an_offline_run_are_uploaded_once(wandb_server: WandbServer, tmp_path: Path) -> None:
    save(wandb_server, tmp_path, "saver.close()")
    assert wandb_server.state.requests == []
    assert_complete(wandb_server, tmp_path)
    best = wandb_server.state.collection("model-toy").find("best")
    assert best is not None
    assert (best.metadata["value"], best.metadata["git_commit"], best.run) == (1.0, "c0ffee", "test-team/p/run")
    assert best.digest == entries(tmp_path)[1].digest
    count = len(wandb_server.state.collection("model-toy").versions)
    assert "nothing to upload" in sync(wandb_server, tmp_path, tmp_path / "out")
    assert len(wandb_server.state.collection("model-toy").versions) == count


def test_checkpoints_of_a_killed_run_are_uploaded(wandb_server: WandbServer, tmp_path: Path) -> None:
    """Killed right after the last save, before anything need be hashed."""
    save(wandb_server, tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    # As if it was killed between the ledger's line and the removal of the files.
    Staging(tmp_path / "out" / "_trackkit" / "run").folder(99).mkdir()
    assert_complete(wandb_server, tmp_path)


def test_checkpoints_of_a_failed_online_upload_are_uploaded(wandb_server: WandbServer, tmp_path: Path) -> None:
    wandb_server.faults.set("http_500", only="upload")
    save(wandb_server, tmp_path, "saver.close()", "online", timeout=3.0)
    wandb_server.faults.clear()
    assert "committed" not in states(entries(tmp_path)).values()
    assert_complete(wandb_server, tmp_path)


@pytest.mark.parametrize("fault", ["upload", "CommitArtifact"])
def test_kill_in_mid_upload_leaves_nothing_pending(wandb_server: WandbServer, tmp_path: Path, fault: str) -> None:
    wandb_server.faults.set("hang", only=fault)
    env = {"PYTHONPATH": str(ROOT), "TRACKKIT_INDEX": "/dev/null"}
    code = SAVE.format(mode="online", timeout=10.0, more="") + "import time; time.sleep(300)"
    process = start(wandb_server, tmp_path, code, env)
    wait_for(lambda: "handed over" in states(entries(tmp_path)).values() and 5 in states(entries(tmp_path)))
    wandb_server.state.wait_for(lambda state: any(each.operation == fault for each in state.requests))
    kill(process)
    time.sleep(2.0)
    wandb_server.faults.clear()
    assert "PENDING" in [each.state for each in wandb_server.state.collection("model-toy").versions]
    sync(wandb_server, tmp_path, tmp_path / "out")
    found = versions(wandb_server)
    assert {**found, "step=3.ckpt": ["step-3"]} == ALIASES
    states_there = [each.state for each in wandb_server.state.collection("model-toy").versions]
    assert states_there.count("COMMITTED") == len(found)
    assert "PENDING" not in states_there
    assert "nothing to upload" in sync(wandb_server, tmp_path, tmp_path / "out")


def test_kill_of_the_sync_itself_makes_no_version_twice(wandb_server: WandbServer, tmp_path: Path) -> None:
    save(wandb_server, tmp_path, "saver.close()")
    wandb_server.faults.set("hang", only="CommitArtifact")
    process = start_sync(wandb_server, tmp_path, tmp_path / "out", fork_uploads=False)
    wandb_server.state.wait_for(lambda state: any(each.operation == "CommitArtifact" for each in state.requests))
    kill(process)
    time.sleep(2.0)
    wandb_server.faults.clear()
    assert_complete(wandb_server, tmp_path)
    found = [each.state for each in wandb_server.state.collection("model-toy").versions]
    assert (found.count("COMMITTED"), found.count("PENDING")) == (5, 0)


def test_watched_run_is_complete_at_its_end(wandb_server: WandbServer, tmp_path: Path) -> None:
    process = start(wandb_server, tmp_path, SAVING, {"PYTHONPATH": str(ROOT), "TRACKKIT_INDEX": "/dev/null"})
    wait_for((tmp_path / "begun").exists)
    watching = start_sync(wandb_server, tmp_path, tmp_path / "out", "--watch")
    finish(process)
    printed = finish_sync(watching, 0)
    assert re.search(r"^run +0 .* 5/5 +complete$", printed, re.MULTILINE), printed
    assert versions(wandb_server) == ALIASES


def test_remote_checkpoints_are_references(wandb_server: WandbServer, tmp_path: Path) -> None:
    save(
        wandb_server, tmp_path, "saver.save(7, 0.5, path='s3://bucket/runs/last.ckpt', series='remote')\nsaver.close()"
    )
    printed = sync(wandb_server, tmp_path, tmp_path / "out")
    assert "6/6" in printed, printed
    (version,) = wandb_server.state.collection("model-toy-remote").live
    assert version.contents["last.ckpt"]["ref"] == "s3://bucket/runs/last.ckpt"
    assert sorted(version.aliases) == ["best", "latest", "step-7"]
    assert "nothing to upload" in sync(wandb_server, tmp_path, tmp_path / "out")


def member(server: WandbServer, home: Path, run_id: str, mode: str, saves: list[Any], monitor: str = "val_loss") -> str:
    env = {"PYTHONPATH": str(ROOT), "TRACKKIT_INDEX": "/dev/null"}
    code = MEMBER.format(run_id=run_id, mode=mode, saves=saves, monitor=monitor)
    process = start(server, home, "from trackkit.notices import ensure_heard\nensure_heard()" + code, env)
    finish(process)
    return process.stderr


def shared(server: WandbServer) -> dict[str, str]:
    """Returns alias to the run and step of its version."""
    live = server.state.collection("model-toy").live
    files = {version.id: f"{str(version.run).rpartition('/')[2]} {version.metadata['step']}" for version in live}
    return {alias: files[version.id] for version in live for alias in version.aliases}


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_best_of_a_shared_collection_is_the_best_of_all_runs(
    wandb_server: WandbServer, tmp_path: Path, order: str, mode: str
) -> None:
    """Online, one after the other; offline, whichever is synced first. None deletes a version of the other."""
    saves = {"a": [(0, 3.0), (1, 1.0), (2, 5.0), (3, 6.0)], "b": [(0, 4.0), (1, 2.0), (2, 5.0), (13, 7.0)]}
    for run_id in order if mode == "online" else "ab":
        member(wandb_server, tmp_path, run_id, mode, saves[run_id])
    for run_id in order if mode == "offline" else order[:1]:
        sync(wandb_server, tmp_path, tmp_path / run_id)
    found, a_first = shared(wandb_server), mode == "offline" or order == "ab"
    assert (found["best"], found["was-best"]) == ("a 1", "a 0" if a_first else "b 1")
    assert found["latest"] == ("b 13" if a_first else "a 3")
    kept = {f"{str(each.run)[-1]} {each.metadata['step']}" for each in wandb_server.state.collection("model-toy").live}
    assert kept == {"a 0", "a 1", "a 3", "b 0", "b 1", "b 13"}
    sync(wandb_server, tmp_path, tmp_path / "b", tmp_path / "a")
    assert shared(wandb_server) == found


def test_runs_that_monitor_different_metrics_share_a_collection(wandb_server: WandbServer, tmp_path: Path) -> None:
    member(wandb_server, tmp_path, "a", "online", [(0, 3.0), (1, 1.0)])
    said = member(wandb_server, tmp_path, "b", "online", [(2, 9.0), (3, 8.0), (4, 9.5)], monitor="val_error")
    assert said.count("monitor different metrics (val_error (min), val_loss (min)), which can't be compared") == 1
    found = shared(wandb_server)
    assert (found["best"], found["was-best"], found["latest"]) == ("b 3", "b 2", "b 4")


def test_sync_keeps_to_the_options_of_the_run(wandb_server: WandbServer, tmp_path: Path) -> None:
    """With `keep: 6` nothing is superseded; the defaults would leave out step 3."""
    save(wandb_server, tmp_path, "saver.close()", more="keep=6, upload='all'")
    sync(wandb_server, tmp_path, tmp_path / "out")
    assert len(versions(wandb_server)) == 6


def test_sync_uploads_up_to_the_total_of_the_run(wandb_server: WandbServer, tmp_path: Path) -> None:
    save(wandb_server, tmp_path, "saver.close()", more="keep=6, max_total_GB=20e-9")
    sync(wandb_server, tmp_path, tmp_path / "out")
    assert list(versions(wandb_server)) == ["step=0.ckpt", "step=1.ckpt"]
    assert set(states(entries(tmp_path)).values()) == {"committed", "skipped"}


def test_sync_takes_no_file_of_this_machine_for_a_checkpoint(wandb_server: WandbServer, tmp_path: Path) -> None:
    """The ledger of a folder from somebody else says that ranks still write where a private file is."""
    save(wandb_server, tmp_path, "saver.close()", more="keep=6")
    secret = tmp_path / "private" / "secret"
    secret.parent.mkdir()
    secret.write_text("secret")
    inside = tmp_path / "out" / "checkpoint-8"
    inside.mkdir()
    (inside / "link").symlink_to(secret)
    ledger = Ledger(tmp_path / "out" / "_trackkit" / "run")
    for number, path in ((7, secret.parent), (8, inside)):
        ledger.put(Entry(number, str(path), step=number, shared=True, collection="model-toy"))
    ledger.close()
    sync(wandb_server, tmp_path, tmp_path / "out")
    held = [content for each in wandb_server.state.collection("model-toy").versions for content in each.contents]
    assert sorted(held) == [f"step={step}.ckpt" for step in range(6)]
