"""`trackkit sync` and `read_run` of a folder from somebody else: nothing outside of it leaves, and no secret."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.syncing import record, row_of, sync, wandb_files
from tests.support.warm import run_script
from tests.wandb_server import WandbServer
from trackkit import read_run
from trackkit.errors import TrackKitError
from trackkit.integrations.wandb.blocks import Reader, Writer
from trackkit.integrations.wandb.files import make, parse

pytestmark = pytest.mark.timeout(240)

SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SENTENCE = "the content of a private file"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("recorded")
    (home / "weights").write_bytes(b"w" * 100)
    record(home / "out", "r1", 0, 12, "--artifact", str(home / "weights"))
    return home / "out"


@pytest.fixture
def root(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "out", symlinks=True))


@pytest.fixture
def private(tmp_path: Path) -> Path:
    path = tmp_path / "private"
    path.write_text(json.dumps({"auths": SENTENCE}))
    return path


def append(path: Path, *records: bytes) -> None:
    """Writes the file again, with more records before its end."""
    before = list(Reader(path).new())
    writer = Writer(path)
    for data in [*before[:2], *records, *before[2:]]:
        writer.add(data)
    writer.close()


def everything_sent(server: WandbServer) -> str:
    return "".join(f"{vars(run)}" for run in server.state.runs.values())


def test_linked_folders_of_other_runs_are_not_followed(
    wandb_server: WandbServer, recorded: Path, tmp_path: Path
) -> None:
    """A received folder has links to the W&B folder and the run folder of a run that lies elsewhere."""
    (theirs,) = wandb_files(recorded)
    received = tmp_path / "received"
    (received / "wandb").mkdir(parents=True)
    (received / "wandb" / theirs.parent.name).symlink_to(theirs.parent)
    assert "is a link out of its folder" in sync(wandb_server, tmp_path, received, code=1)
    shutil.rmtree(received)
    (received / "_trackkit").mkdir(parents=True)
    (received / "_trackkit" / "r1").symlink_to(recorded / "_trackkit" / "r1")
    assert "no run in" in sync(wandb_server, tmp_path, received, code=1)
    assert wandb_server.state.runs == {}


@pytest.mark.parametrize("name", ["config.json", "rows.jsonl", "run.json", "summary.json"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_run_folder_with_an_unsafe_file_fails(root: Path, private: Path, name: str, kind: str) -> None:
    path = root / "_trackkit" / "r1" / name
    path.unlink()
    if kind == "link":
        path.symlink_to(private)
    else:
        os.mkfifo(path)
    with pytest.raises(TrackKitError, match=f"{name}|no run in"):
        read_run(root / "_trackkit" / "r1")


@pytest.mark.parametrize("name", ["config.json", "run-r1.wandb"])
def test_links_out_of_the_folder_are_not_uploaded(
    wandb_server: WandbServer, root: Path, private: Path, tmp_path: Path, name: str
) -> None:
    (path,) = root.rglob(name)
    path.unlink()
    path.symlink_to(private)
    printed = sync(wandb_server, tmp_path, root, code=1)
    assert row_of(printed, "r1")[-1] == "failed"
    assert f"{name}' is a link out of its folder" in printed
    assert wandb_server.state.runs == {}


def test_media_and_artifacts_are_files_of_the_run(
    wandb_server: WandbServer, root: Path, private: Path, tmp_path: Path
) -> None:
    (log,) = wandb_files(root)
    (log.parent / "files" / "media").mkdir()
    (log.parent / "files" / "media" / "x.txt").symlink_to(private)
    (log.parent / "files" / "ours.txt").write_text("ours")
    names = ["media/x.txt", "../../../../private", str(private), "ours.txt"]
    records = [parse(data) for data in Reader(log).new()]
    (theirs,) = (each for each in records if each.WhichOneof("record_type") == "artifact")
    theirs.artifact.digest, theirs.artifact.name = "0" * 32, "theirs"
    theirs.artifact.manifest.contents[0].local_path = str(private)
    append(log, make(files={"files": [{"path": name} for name in names]}), theirs.SerializeToString())
    printed = sync(wandb_server, tmp_path, root, code=1)
    assert "artifacts are not committed: 'theirs' is absent" in printed
    assert "Not uploaded: " in printed
    files = wandb_server.state.run("r1").files
    assert files["ours.txt"].data == b"ours"
    assert not any(SENTENCE.encode() in (file.data or b"") for file in files.values())
    assert SENTENCE not in everything_sent(wandb_server)


SAVING = """
from pathlib import Path
import trackkit, wandb
from lightning.pytorch import Callback
from tests.support.toy import TRAININGS, Recipe
from trackkit import TrackKit

class Saving(Callback):
    def on_train_batch_end(self, *args):
        trackkit.log({"损失": 1.5})

    def on_train_end(self, trainer, module):
        Path("notes.txt").write_text("my notes")
        wandb.save("notes.txt")

TRAININGS["lightning"](Recipe(), Path("out"), [TrackKit(project="p"), Saving()])
"""


def test_saved_file_and_unicode_name_of_an_offline_run_are_uploaded(wandb_server: WandbServer, tmp_path: Path) -> None:
    done = run_script(SAVING, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "notes.txt").unlink()
    sync(wandb_server, tmp_path, tmp_path / "out")
    (run,) = wandb_server.state.runs.values()
    assert run.files["notes.txt"].data == b"my notes"
    assert {row["batch/损失"] for row in run.history if "batch/损失" in row} == {1.5}


def test_secrets_of_an_old_record_are_masked(wandb_server: WandbServer, root: Path, tmp_path: Path) -> None:
    (log,), folder = wandb_files(root), root / "_trackkit" / "r1"
    with (folder / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"_row": 99, "_time": 9e9, "batch/step": 99, "batch/note": f"use {SECRET}"}) + "\n")
    for name, key in (("config.json", "hparams/login"), ("summary.json", "final/login")):
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), key: f"with {SECRET}"}))
    records = [parse(data) for data in Reader(log).new()]
    (artifact,) = (each for each in records if each.WhichOneof("record_type") == "artifact")
    artifact.artifact.description, artifact.artifact.metadata = f"by {SECRET}", json.dumps({"token": SECRET})
    append(
        log,
        artifact.SerializeToString(),
        make(output_raw={"output_type": 1, "line": f"hello {SECRET}\n"}),
        make(environment={"args": ["--token", SECRET], "program": SECRET}),
        make(summary={"update": [{"key": "mine", "value_json": json.dumps(SECRET)}]}),
        make(alert={"title": "alert", "text": SECRET}),
    )
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    run = wandb_server.state.run("r1")
    assert run.history[-1]["batch/note"] == "use ***"
    assert (run.config["hparams/login"], run.summary["final/login"]) == ("with ***", "with ***")
    assert "hello ***" in "".join(run.console)
    assert SECRET not in everything_sent(wandb_server)
    assert not any(SECRET.encode() in (file.data or b"") for file in run.files.values())
