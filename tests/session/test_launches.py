"""Trainings in processes that a script starts, and the files that a run leaves."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_log import local_runs
from tests.support.measured_training import Training
from tests.support.wandb_offline import find_runs, read_finished
from tests.support.warm import run_script, run_spawning
from tests.wandb_server import WandbServer
from trackkit.session.open import free_id

# Files and folders of one offline run, as docs/reliability.md states: TrackKit's alone, and with W&B's.
OWN_INODES, INODES = 7, 28

# Notes which files are mapped at the end of training, and every call that forces data to the disk.
WATCHED = """
import os, pathlib, traceback, trackkit
forced, finish = open("forced", "w"), trackkit.finish
def forcing(*_):
    forced.write("".join(traceback.format_stack()))
    forced.flush()
os.fsync = os.fdatasync = os.sync = forcing
def finish_and_note():
    pathlib.Path("maps").write_text(pathlib.Path("/proc/self/maps").read_text())
    finish()
trackkit.finish = finish_and_note
"""

LAUNCH = """
import multiprocessing, sys
from pathlib import Path
from trackkit import TrackKit

def fit(kit):
    from tests.support.toy import TRAININGS, Recipe
    TRAININGS["lightning"](Recipe(epochs=1, every=4), Path("out"), [kit])
    import trackkit
    trackkit.finish()

if __name__ == "__main__":
    how, parent = sys.argv[1:]
    kit = TrackKit(name=parent, dir="out")
    if how == "fork":
        # Imported once for all children.
        import lightning.pytorch
    if parent == "trained":
        import trackkit
        finish, trackkit.finish = trackkit.finish, lambda: None
        fit(kit)
        trackkit.finish = finish
    context = multiprocessing.get_context(how)
    processes = [context.Process(target=fit, args=(kit,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(280)
    sys.exit(max(process.exitcode for process in processes))
"""


@pytest.mark.parametrize(("how", "parent"), [("spawn", "idle"), ("fork", "idle"), ("fork", "trained")])
def test_processes_that_train_at_once_have_a_run_each(tmp_path: Path, how: str, parent: str) -> None:
    """All use the same TrackKit; the run of a parent that trained before stays as it is."""
    script = tmp_path / "launch.py"
    script.write_text(LAUNCH)
    run = run_spawning if how == "spawn" else run_script
    done = run(script, how, parent, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = local_runs(tmp_path)
    assert len(runs) == (3 if parent == "trained" else 2)
    ids = {run.run["run_id"] for run in runs}
    assert len(ids) == len(runs)
    for run in runs:
        assert [step for step, _ in run.history("batch/loss")] == [1, 4, 8, 12, 16, 20, 24]
        assert (run.run["status"], run.run["exit_code"], run.run.get("passes", 1)) == ("finished", 0, 1)
    others = [read_finished(path) for path in find_runs(tmp_path)]
    assert sorted(other.run_id for other in others) == sorted(ids)
    assert all(len(other.history("batch/loss")) == 7 for other in others)


def _put_id(root: Path, starts: Any, ids: Any) -> None:
    starts.wait()
    ids.put(free_id(root, "same"))


def test_processes_that_start_at_once_get_different_ids(tmp_path: Path) -> None:
    fork, rounds = multiprocessing.get_context("fork"), 20
    for number in range(rounds):
        starts, ids = fork.Barrier(2), fork.Queue()
        processes = [fork.Process(target=_put_id, args=(tmp_path / str(number), starts, ids)) for _ in range(2)]
        for process in processes:
            process.start()
        assert sorted(ids.get(timeout=300) for _ in processes) == ["same", "same-2"]
        for process in processes:
            process.join()


@pytest.mark.parametrize("framework", ["lightning", "huggingface"])
def test_run_stays_in_its_folder_and_within_its_inode_budget(
    wandb_server: WandbServer, tmp_path: Path, framework: str
) -> None:
    """No file in the home folder, no database, no file mapped into memory, no forced write."""
    home, out = tmp_path / "home", tmp_path / "runs"
    home.mkdir()
    out.mkdir()
    folders = {f"WANDB_{name}_DIR": str(tmp_path / "wandb" / name) for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT")}
    env = {"HOME": str(home), "WANDB_DIR": str(out), "TRACKKIT_INDEX": "", **dict.fromkeys(folders, "")}
    training = Training(wandb_server, tmp_path / "cwd", [framework, "--mode", "offline", "--patch", WATCHED], env)
    try:
        training.finish()
    finally:
        training.kill()
    assert list(home.rglob("*")) == []
    made = [path for path in out.rglob("*") if path not in (out / "_trackkit", out / "wandb")]
    assert len([path for path in made if path.is_relative_to(out / "_trackkit")]) <= OWN_INODES
    assert len(made) <= INODES, sorted(map(str, made))
    assert not [path for path in made if path.suffix in (".db", ".sqlite", ".lmdb")]
    assert not any(path.read_bytes().startswith(b"SQLite") for path in made if path.is_file())
    maps = (tmp_path / "cwd" / "maps").read_text()
    assert "torch" in maps
    assert str(out) not in maps
    assert (tmp_path / "cwd" / "forced").read_text() == ""
    assert os.path.getsize(out / "_trackkit" / training_id(out) / "rows.jsonl") > 0


def training_id(out: Path) -> str:
    """Returns the id of the only run."""
    (run,) = local_runs(out)
    return str(run.run["run_id"])
