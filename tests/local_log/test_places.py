"""Where the files of a run lie, and which run a user means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.lightning_toys import Silent, data, trainer
from tests.support.local_log import local_run
from tests.support.syncing import record, row_of, sync, wandb_files
from tests.wandb_server import WandbServer
from trackkit import TrackKit, TrackKitError, finish, read_run
from trackkit.local_log.places import find_runs, run_folder
from trackkit.local_log.reader import FORMAT


def write_run(folder: Path, **run: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"run_id": folder.name, "status": "finished", **run}))
    (folder / "rows.jsonl").write_text('{"_row":0,"_time":1.5,"batch/step":1,"batch/loss":0.5}\n')
    return folder


@pytest.mark.parametrize("given", ["nothing", "dir", "WANDB_DIR"])
def test_output_folder_gets_one_folder(isolated: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """Where the user chose a folder for records, W&B's files are in its `wandb`, as they are without TrackKit."""
    if given == "WANDB_DIR":
        monkeypatch.setenv("WANDB_DIR", str(isolated / "records"))
        (isolated / "records").mkdir()
    kit = TrackKit(project="p", dir="records" if given == "dir" else None)
    trainer([kit], default_root_dir=isolated / "out", max_steps=2).fit(Silent(), data(2))
    finish()
    run, (file,) = local_run(isolated), list(isolated.glob("**/run-*.wandb"))
    home = isolated / ("out" if given == "nothing" else "records")
    assert run.folder == home / "_trackkit" / run.run["run_id"]
    assert file.parents[1] == home / ("_trackkit/wandb" if given == "nothing" else "wandb")
    made = ["_trackkit"] if given == "nothing" else ["_trackkit", "wandb"]
    assert sorted(path.name for path in home.iterdir() if path.is_dir()) == made
    assert run.run["format"] == FORMAT
    for asked in (home, home / "_trackkit", run.folder, file, file.parent, file.parents[1], run.run["run_id"]):
        assert read_run(asked).folder == run.folder


@pytest.mark.parametrize("home", ["trackkit-runs", "_trackkit/trackkit-runs"])
def test_folder_of_an_earlier_version_is_found(tmp_path: Path, home: str) -> None:
    """The second is that of trainings that were pushed to the Hub."""
    folder = write_run(tmp_path / home / "abc")
    assert run_folder(tmp_path, "abc") == folder
    assert run_folder(tmp_path, "new") == tmp_path / "_trackkit" / "new"
    for asked in (folder, folder.parent, tmp_path):
        (found,) = find_runs(asked)
        assert (found.folder, found.root, found.run_id) == (folder, tmp_path, "abc")
    write_run(tmp_path / "_trackkit" / "def")
    assert [run.run_id for run in find_runs(tmp_path)] == ["abc", "def"]


@pytest.mark.parametrize("newer", [FORMAT + 1, "2", None])
def test_format_of_a_newer_version_is_refused(wandb_server: WandbServer, isolated: Path, newer: object) -> None:
    folder = write_run(isolated / "_trackkit" / "abc", format=newer)
    before = (folder / "run.json").read_bytes()
    with pytest.raises(TrackKitError, match="this version of trackkit knows formats up to 1") as caught:
        read_run(isolated)
    with pytest.raises(TrackKitError) as resumed:
        trainer([TrackKit(resume="abc", project="p")], default_root_dir=isolated).fit(Silent(), data(2))
    assert str(resumed.value) == str(caught.value)
    printed = sync(wandb_server, isolated, isolated, code=1)
    assert row_of(printed, "abc")[-1] == "failed"
    assert f"abc: {caught.value}" in printed
    assert (folder / "run.json").read_bytes() == before


def test_run_without_a_local_log_is_read_from_the_file_of_wandb(tmp_path: Path) -> None:
    record(tmp_path, "r1", 0, 12)
    rows = read_run(tmp_path).rows
    folder = run_folder(tmp_path, "r1")
    folder.rename(tmp_path / "r1")
    (file,) = wandb_files(tmp_path)
    for asked in (tmp_path, file, file.parent):
        run = read_run(asked)
        assert run.folder is None
        assert (run.run["run_id"], run.run["status"], run.config["hparams/lr"]) == ("r1", "finished", 0.1)
        assert [value for _, value in run.series("batch/loss")] == [
            row.values["batch/loss"] for row in rows if "batch/loss" in row.values
        ]
