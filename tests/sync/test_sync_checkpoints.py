"""A sync uploads the checkpoints that the server lacks, and sets their aliases: offline, after an outage and a kill."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.saving import states
from tests.support.syncing import sync
from tests.wandb_server import WandbServer
from tests.wandb_server.client import finish, start
from trackkit.checkpoints.ledger import Entry, read_ledger
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
    assert_complete(wandb_server, tmp_path)


def test_checkpoints_of_a_failed_online_upload_are_uploaded(wandb_server: WandbServer, tmp_path: Path) -> None:
    wandb_server.faults.set("http_500", only="upload")
    save(wandb_server, tmp_path, "saver.close()", "online", timeout=3.0)
    wandb_server.faults.clear()
    assert "committed" not in states(entries(tmp_path)).values()
    assert_complete(wandb_server, tmp_path)


def test_sync_keeps_to_the_options_of_the_run(wandb_server: WandbServer, tmp_path: Path) -> None:
    """With `keep: 6` nothing is superseded; the defaults would leave out step 3."""
    save(wandb_server, tmp_path, "saver.close()", more="keep=6, upload='all'")
    sync(wandb_server, tmp_path, tmp_path / "out")
    assert len(versions(wandb_server)) == 6
