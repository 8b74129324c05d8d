"""A failing run is reported in its own line, without a traceback; the other runs are synced."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.syncing import assert_all_there, finish_sync, record, row_of, start_sync, sync
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment

_PR_CAPBSET_DROP, _OVERRIDES = 24, (1, 2)


def test_lock_that_cannot_be_made_is_replaced_by_the_users_own(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "r1", "r1", 0, 8)
    (tmp_path / "r1" / "_trackkit" / "r1" / ".sync.lock").mkdir()
    assert row_of(sync(wandb_server, tmp_path), "r1")[-1] == "complete"


def test_unreadable_run_does_not_stop_the_others(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "r1", "r1", 0, 8)
    record(tmp_path / "r2", "r2", 0, 8)
    path = next((tmp_path / "r1").glob("_trackkit/wandb/*/run-r1.wandb"))
    # The first records of two files are read to put them in order.
    shutil.copytree(path.parent, path.parent.with_name("offline-run-20990101_000000-r1"))
    path.unlink()
    path.mkdir()
    printed = sync(wandb_server, tmp_path, code=1)
    assert row_of(printed, "r1")[-1] == "failed"
    assert "is not a regular file" in printed
    assert row_of(printed, "r2")[-1] == "complete"
    assert_all_there(wandb_server, tmp_path / "r2", "r2")


def test_server_that_denies_a_question_is_reported(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "r1", "r1", 0, 8)
    record(tmp_path / "r2", "r2", 0, 8)
    sync(wandb_server, tmp_path, "r1")
    asked = {request.operation for request in wandb_server.state.requests}
    for denied in ("HistoryPage", "RunOutputArtifacts", "RunConsoleLogTail"):
        (tmp_path / "r1" / "_trackkit" / "r1" / "sync.json").unlink(missing_ok=True)
        assert denied in asked
        wandb_server.faults.deny(denied)
        printed = sync(wandb_server, tmp_path, code=1)
        for name in ("r1", "r2"):
            assert row_of(printed, name)[-1] == "failed"
        assert "answered with an error" in printed
        wandb_server.faults.clear()
    sync(wandb_server, tmp_path)
    for name in ("r1", "r2"):
        assert_all_there(wandb_server, tmp_path / name, name)


def test_read_only_folder_is_synced_and_remembered(wandb_server: WandbServer, tmp_path: Path) -> None:
    """Notes and lock are kept among the user's own files."""
    root = tmp_path / "out"
    record(root, "r1", 0, 25)
    paths = [root, *(path for path in root.rglob("*") if not path.is_symlink())]
    before = {path: path.stat().st_mtime for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        for verdict in ("complete", "unchanged"):
            done = subprocess.Popen(
                [sys.executable, "-m", "trackkit.cli.main", "sync", str(root)],
                cwd=tmp_path,
                env={**environment(wandb_server, tmp_path), "COLUMNS": "200"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=_without_overrides,
            )
            printed, errors = done.communicate(timeout=300)
            assert done.returncode == 0, f"{printed}\n{errors}"
            assert row_of(printed, "r1")[-1] == verdict
        assert {path: path.stat().st_mtime for path in before} == before
    finally:
        for path in paths:
            path.chmod(0o755)
    assert_all_there(wandb_server, root, "r1")


def _without_overrides() -> None:
    """Makes file permissions hold for the superuser too, whom tests may run as."""
    if os.geteuid() == 0:
        for capability in _OVERRIDES:
            ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def test_report_is_not_cut_without_a_terminal(wandb_server: WandbServer, tmp_path: Path) -> None:
    name = "sweep-abcdefgh-20261121-with-a-long-name"
    record(tmp_path / "out", name, 0, 5)
    process = start_sync(wandb_server, tmp_path, tmp_path / "out", COLUMNS="40")
    cells = row_of(finish_sync(process, 0), name)
    assert (cells[0], cells[-1]) == (name, "complete")
