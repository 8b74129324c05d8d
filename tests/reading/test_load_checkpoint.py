"""A recorded checkpoint is loaded from where it still is, and the run that uses it shows its parent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import trackkit
from tests.support.local_log import local_run
from tests.support.memory_uploads import MemoryUploads
from tests.support.processes import ROOT
from tests.support.saving import Saver
from tests.support.syncing import sync
from tests.support.toy import TRAININGS, Recipe
from tests.wandb_server import WandbServer
from tests.wandb_server.client import finish, start
from trackkit import TrackKit
from trackkit.checkpoints import parents
from trackkit.checkpoints.ledger import Ledger, read_ledger
from trackkit.engine.sink import Sink
from trackkit.local_log.regular import ReadError
from trackkit.reading.checkpoints import saved_checkpoints
from trackkit.reading.whois import whois

pytestmark = pytest.mark.timeout(180)


class Server(Sink):
    """A backend that takes checkpoints."""

    def __init__(self) -> None:
        self.uploads = MemoryUploads()


@pytest.fixture(autouse=True)
def no_waiting_parents() -> None:
    parents.take_waiting()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Records a run with the values 3, 1 and 2 at steps 0 to 2, and returns its folder."""

    def save(**options: object) -> Path:
        saver = Saver(tmp_path / "out", **options)  # type: ignore[arg-type]
        for step, value in enumerate([3.0, 1.0, 2.0]):
            saver.save(step, value)
        saver.save(2, 2.0, path=saver.write("last.ckpt", b"weights 2"), again=True)
        saver.close()
        return saver.folder

    return save


def test_the_framework_s_own_file_is_returned(saved: Callable[..., Path]) -> None:
    folder = saved()
    saves = folder.parents[1] / "saves"
    assert trackkit.load_checkpoint(folder) == str(saves / "step=1.ckpt")
    names = ("best", "latest", "was-best", "step-0")
    found = [Path(trackkit.load_checkpoint(f"{folder}:{name}")).name for name in names]
    assert found == ["step=1.ckpt", "step=2.ckpt", "step=0.ckpt", "step=0.ckpt"]
    assert trackkit.load_checkpoint(saves / "step=2.ckpt") == str(saves / "step=2.ckpt")
    assert trackkit.load_checkpoint(saves / "last.ckpt") == str(saves / "step=2.ckpt"), "the same weights"
    assert [each.used for each in read_ledger(folder)] == [True, True, True, False]


def test_copy_in_the_run_s_folder_is_returned_once_the_file_is_deleted_or_rewritten(
    saved: Callable[..., Path],
) -> None:
    folder = saved(upload="all")
    saves = folder.parents[1] / "saves"
    (saves / "step=1.ckpt").unlink()
    (saves / "step=2.ckpt").unlink()
    (saves / "step=2.ckpt").write_bytes(b"of another run")
    assert [Path(trackkit.load_checkpoint(f"{folder}:{name}")).read_bytes() for name in ("best", "latest")] == [
        b"weights 1",
        b"weights 2",
    ]


def test_checkpoint_that_is_nowhere_is_an_error(saved: Callable[..., Path]) -> None:
    folder = saved(upload="none")
    for path in (folder.parents[1] / "saves").iterdir():
        path.unlink()
    with pytest.raises(
        ReadError, match=r"step 1 of run 'run' is neither in .* nor on W&B \(skipped: 'upload' is 'none'"
    ):
        trackkit.load_checkpoint(folder)


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        (":bset", "no checkpoint 'bset'; did you mean 'best'"),
        (":step-7", "no checkpoint 'step-7'"),
        (":v0", "no checkp"),
    ],
)
def test_unknown_alias_is_an_error(saved: Callable[..., Path], alias: str, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        trackkit.load_checkpoint(f"{saved()}{alias}")


def test_url_is_found_by_itself_whatever_its_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index"))
    saver = Saver(tmp_path / "out")
    saver.save(1, 0.5, path="s3://me:pw7K@bucket/run/last.ckpt?X-Amz-Signature=a1b2")
    saver.save(2, 0.7, path="s3://me:pw7K@bucket/run/2.ckpt")
    saver.close()
    url = "s3://bucket/run/last.ckpt"
    for spec in (saver.folder, url, "s3://me:other@bucket/run/last.ckpt", f"{url}?X-Amz-Signature=ff"):
        assert trackkit.load_checkpoint(spec) == url
    assert (whois(url).checkpoint["step"], whois(url).checkpoint["size"]) == ("1", "not recorded")
    with pytest.raises(ReadError, match=r"has saved a checkpoint to 's3://bucket/3\.ckpt'"):
        whois("s3://me:pw7K@bucket/3.ckpt")


def test_unknown_run_and_run_without_checkpoints_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no run 'nothing'"):
        trackkit.load_checkpoint("nothing:best")
    saver = Saver(tmp_path / "out")
    saver.close()
    with pytest.raises(ReadError, match="no checkpoint to load"):
        trackkit.load_checkpoint(saver.folder)


def test_several_monitors_need_the_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index"))
    saver = Saver(tmp_path / "out")
    for step, series in enumerate(["val_loss", "val_acc"]):
        saver.save(step, 1.0, series=series)
    saver.close()
    with pytest.raises(ReadError, match=r"several .* model-toy-val_acc:best, model-toy-val_loss:best"):
        trackkit.load_checkpoint(saver.folder)
    assert trackkit.load_checkpoint("model-toy-val_acc").endswith("step=1.ckpt")
    with pytest.raises(ReadError, match=r"no run 'model-toy-val_ac'.* did you mean 'model-toy-val_acc'"):
        trackkit.load_checkpoint("model-toy-val_ac:best")


def test_runs_of_one_collection_share_its_best_and_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index"))
    for run_id, values in (("a", [3.0, 1.0]), ("b", [2.0, 4.0])):
        saver = Saver(tmp_path / run_id, run_id=run_id, sinks=[Server()])
        for step, value in enumerate(values):
            saver.save(step, value, f"{run_id}{step}".encode())
            saver.wait_for("committed")
        saver.close()
    assert trackkit.load_checkpoint("model-toy") == str(tmp_path / "a/saves/step=1.ckpt")
    assert trackkit.load_checkpoint("model-toy:latest") == str(tmp_path / "b/saves/step=1.ckpt")
    assert trackkit.load_checkpoint("model-toy:was-best") == str(tmp_path / "a/saves/step=0.ckpt")
    a, b = (saved_checkpoints(trackkit.read_run(tmp_path / run_id)) for run_id in "ab")
    assert [each.aliases for each in a] == [("was-best",), ("best",)]
    assert [each.aliases for each in b] == [("step-0",), ("latest", "step-1")]
    for run_id, project in (("a", "p"), ("b", "q")):
        assert trackkit.load_checkpoint("model-toy").endswith("step=1.ckpt")
        Path(str(trackkit.read_run(tmp_path / run_id).folder), "config.json").write_text(
            json.dumps({"trackkit/settings/project": project})
        )
    with pytest.raises(ReadError, match=r"one of the runs: a:best \(project 'p'\), b:best \(project 'q'\)\."):
        trackkit.load_checkpoint("model-toy")


@pytest.mark.parametrize("framework", TRAININGS)
def test_fine_tuned_run_shows_its_parent(
    framework: str, saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index"))
    folder = saved()
    path = trackkit.load_checkpoint(folder)
    parents.wait(parents.Parent("other", "", "model-b:v3", None, "e/p/model-b:v3"))
    TRAININGS[framework](Recipe(epochs=1), tmp_path / "child", [TrackKit(sinks=[])])
    trackkit.finish()
    child = local_run(tmp_path / "child")
    assert child.config["parent/run"] == "run, other"
    assert child.config["parent/checkpoint"] == "model-toy (step 1), model-b:v3"
    assert child.config["parent/step"] == "1, ?"
    assert "parent/name" in child.config
    uses = Ledger(child.folder).uses
    assert [(each.folder, each.number, each.name, each.done) for each in uses] == [
        (str(folder), 2, "", False),
        ("", 0, "e/p/model-b:v3", False),
    ]
    origin = whois(path)
    assert (origin.users, origin.run["project"]) == ([child.folder.name], "p")
    assert (origin.code["commit"], origin.checkpoint["step"], origin.checkpoint["aliases"]) == (
        *("c0ffee", "1"),
        "best, step-1",
    )
    assert whois(f"{folder}:latest").users == []


PARENT = """
from pathlib import Path
from tests.support.saving import Saver
saver = Saver(Path("out").absolute(), {mode!r})
for step, value in enumerate([3.0, 1.0, 2.0]):
    saver.save(step, value).unlink()
saver.close()
"""
CHILD = """
from pathlib import Path
import trackkit
from tests.support.saving import Saver
child = Saver(Path("child").absolute(), {mode!r}, run_id="child", name="child")
from trackkit.checkpoints import parents
path = trackkit.load_checkpoint({spec!r})
assert Path(path).read_bytes() == b"weights 1", path
print("LOADED", path)
(parent,) = parents.take_waiting()
child.tracker.used(parent, parents.parent_config([parent]))
child.save(1, 0.5).unlink()
child.close()
"""


def python(server: WandbServer, home: Path, code: str) -> str:
    process = start(server, home, code, {"PYTHONPATH": str(ROOT), "TRACKKIT_INDEX": "/dev/null"})
    finish(process)
    return process.stdout


def users(server: WandbServer) -> list[str]:
    """Returns the ids of the runs that have used the best version."""
    best = server.state.collection("model-toy").find("best")
    assert best is not None
    return [run.id for run in server.state.runs.values() if best.id in run.input_artifacts]


def test_online_use_is_an_input_of_the_run(wandb_server: WandbServer, tmp_path: Path) -> None:
    """From the run's folder, by its path on the server, and by the artifact: downloaded once, and checked."""
    python(wandb_server, tmp_path, PARENT.format(mode="online"))
    spec = str(tmp_path / "out/_trackkit/run")
    printed = python(wandb_server, tmp_path, CHILD.format(mode="online", spec=spec))
    assert f"LOADED {tmp_path}/artifacts/model-toy-v" in printed
    assert users(wandb_server) == ["child"]
    shutil.rmtree(tmp_path / "out")
    code = """
import trackkit
print("RUN", trackkit.load_checkpoint("test-team/p/run:was-best"))
path = trackkit.load_checkpoint("test-team/p/model-toy")
print("ARTIFACT", path, open(path).read())
open(path, "w").write("damaged")
open(path + ".onnx", "w").write("mine")
print("AGAIN", open(trackkit.load_checkpoint("test-team/p/model-toy:best")).read())
for spec in ("test-team/p/model-toy:none", "test-team/p/run:none", "test-team/p/no-run"):
    try:
        trackkit.load_checkpoint(spec)
    except trackkit.TrackKitError as error:
        print("ERROR", error)
"""
    code += """
from trackkit.reading.whois import whois
origin = whois("test-team/p/model-toy:best")
print("WHOIS", origin.users, origin.checkpoint["metric"], origin.checkpoint["version"], origin.missing)
"""
    printed = python(wandb_server, tmp_path, code)
    assert "WHOIS ['child'] val_loss 1 (min) test-team/p/model-toy:v1 []" in printed
    assert "RUN " in printed
    assert "step=0.ckpt" in printed
    assert "step=1.ckpt weights 1" in printed
    assert "AGAIN weights 1" in printed
    assert [path.read_text() for path in tmp_path.glob("artifacts/*/*.onnx")] == ["mine"]
    assert printed.count("ERROR") == 3, printed


def test_offline_use_is_noted_by_the_sync(wandb_server: WandbServer, tmp_path: Path) -> None:
    python(wandb_server, tmp_path, PARENT.format(mode="offline"))
    python(wandb_server, tmp_path, CHILD.format(mode="offline", spec=str(tmp_path / "out/_trackkit/run")))
    sync(wandb_server, tmp_path, tmp_path / "child", code=0)
    assert [each.done for each in Ledger(tmp_path / "child/_trackkit/child").uses] == [False]
    sync(wandb_server, tmp_path, tmp_path / "out", code=0)
    sync(wandb_server, tmp_path, tmp_path / "child", code=0)
    assert users(wandb_server) == ["child"]
    assert [each.done for each in Ledger(tmp_path / "child/_trackkit/child").uses] == [True]
