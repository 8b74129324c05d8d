"""Which runs `trackkit sync` syncs: those of the index, several servers, several folders of one run."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import trackkit
from tests.support.syncing import assert_all_there, console, record, row_of, sync
from tests.support.warm import run_script
from tests.wandb_server import WandbServer
from trackkit.local_log.notes import add_note


def test_each_server_has_its_own_notes(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "out", "r1", 0, 5)
    sync(wandb_server, tmp_path)
    with WandbServer() as other:
        assert row_of(sync(other, tmp_path), "r1")[-1] == "complete"
        assert_all_there(other, tmp_path / "out", "r1")
        for server in (wandb_server, other):
            assert "all your runs are on the server" in sync(server, tmp_path)
            assert row_of(sync(server, tmp_path, "r1"), "r1")[-1] == "unchanged"


def test_one_run_id_in_two_projects_is_two_runs(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "a", "r1", 0, 5)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "_trackkit" / "wandb")
    for name, project in (("a", "p"), ("b", "q")):
        path = tmp_path / name / "_trackkit" / "r1" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "trackkit/settings/project": project}))
    assert "several folders" not in sync(wandb_server, tmp_path, tmp_path / "a", tmp_path / "b")
    assert sorted(run.project for run in wandb_server.state.runs.values()) == ["p", "q"]


def test_reading_from_a_server_leaves_the_environment_as_it_is(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import os
from trackkit.sync.server_run import Server
os.environ.pop("WANDB_SILENT", None)
assert not Server().run("a/b/c").state
assert "WANDB_SILENT" not in os.environ
"""
    done = run_script(code, cwd=tmp_path, env=wandb_server.env(tmp_path))
    assert done.returncode == 0, done.stderr


def test_run_deleted_on_the_server_is_sent_again(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "out", "r1", 0, 25)
    sync(wandb_server, tmp_path)
    wandb_server.state.runs.clear()
    printed = sync(wandb_server, tmp_path, "r1")
    assert "the server does not have it any more: sending it again" in printed
    assert row_of(printed, "r1")[-1] == "complete"
    assert_all_there(wandb_server, tmp_path / "out", "r1")


def test_notes_added_after_the_run_are_added_to_those_on_the_server(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "out", "r1", 0, 5)
    sync(wandb_server, tmp_path)
    (run,) = wandb_server.state.runs.values()
    run.notes = "written on the page"
    recorded = trackkit.read_run(tmp_path / "out")
    assert recorded.folder is not None
    add_note(recorded, recorded.folder, "JOURNAL.md: today")
    for _ in range(2):
        assert row_of(sync(wandb_server, tmp_path, "r1"), "r1")[-1] in ("complete", "unchanged")
        assert run.notes == "written on the page\nJOURNAL.md: today"


def test_several_folders_of_one_run_are_an_error_that_names_them(wandb_server: WandbServer, tmp_path: Path) -> None:
    """Of a copied folder only the user knows which one is the run."""
    record(tmp_path / "a", "r1", 0, 20)
    record(tmp_path / "other", "r2", 0, 5)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    printed = sync(wandb_server, tmp_path, tmp_path / "a", tmp_path / "b", tmp_path / "other", code=1)
    folders = [str(tmp_path / name / "_trackkit" / "r1") for name in ("a", "b")]
    assert f"r1: the run has several folders: '{folders[0]}', '{folders[1]}'. Sync the one that you mean" in printed
    assert [run.id for run in wandb_server.state.runs.values()] == ["r2"]
    # The copy of W&B's files alone is the same run too.
    shutil.rmtree(tmp_path / "b" / "_trackkit" / "r1")
    printed = sync(wandb_server, tmp_path, tmp_path / "a", tmp_path / "b", code=1)
    assert f"r1: the run has several folders: '{folders[0]}', '{tmp_path / 'b'}'. Sync the one" in printed
    assert row_of(sync(wandb_server, tmp_path, folders[0]), "r1")[-1] == "complete"
    assert_all_there(wandb_server, tmp_path / "a", "r1")


def test_folder_of_an_earlier_attempt_leaves_the_later_ones_end(wandb_server: WandbServer, tmp_path: Path) -> None:
    """The run was resumed from its checkpoint in another folder, which is on the server already."""
    record(tmp_path / "first", "r1", 0, 20, "--pause", "0.1", "--end", "kill")
    time.sleep(1.1)
    record(tmp_path / "second", "r1", 20, 40)
    for name in ("second", "first"):
        assert row_of(sync(wandb_server, tmp_path, tmp_path / name), "r1")[-1] == "complete"
    run = wandb_server.state.run("r1")
    assert sorted(row["batch/step"] for row in run.history if "batch/loss" in row) == list(range(40))
    assert (run.state, run.summary["final/status"], run.summary["final/steps"]) == ("finished", "finished", 40)
    assert console(wandb_server, "r1").count("step 39") == 1
