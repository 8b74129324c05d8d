"""The user's index of runs: where it lies, that several processes can write it, and that it never fails a training."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.lightning_toys import Silent, data, trainer
from tests.support.processes import clean_env, run_python
from trackkit import TrackKit
from trackkit.local_log import index
from trackkit.settings.sources import load_config


def folders(root: Path, *names: str) -> list[Path]:
    made = [root / "trackkit-runs" / name for name in names]
    for folder in made:
        folder.mkdir(parents=True)
    return made


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "given.jsonl"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "scratch"))
    assert index.index_path() == tmp_path / "given.jsonl"
    monkeypatch.delenv("TRACKKIT_INDEX")
    assert index.index_path() == tmp_path / "scratch" / "trackkit-runs.jsonl"
    monkeypatch.delenv("WANDB_DIR")
    assert index.index_path() == tmp_path / "home" / ".local" / "state" / "trackkit" / "runs.jsonl"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert index.index_path() == tmp_path / "state" / "trackkit" / "runs.jsonl"


def test_a_training_is_in_it_and_nothing_is_in_the_home_folder(tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    code = """
from tests.support.lightning_toys import Silent, data, trainer
from trackkit import TrackKit
trainer([TrackKit(project="p")]).fit(Silent(), data())
"""
    env = clean_env(HOME=str(home), WANDB_DIR=str(scratch), WANDB_RUN_ID="abc")
    del env["TRACKKIT_INDEX"]
    done = run_python(code, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    (line,) = (scratch / "trackkit-runs.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["run_id"], entry["project"], entry["mode"]) == ("abc", "p", "offline")
    assert (Path(entry["folder"]) / "rows.jsonl").is_file()
    assert [path for path in home.rglob("*") if "trackkit" in path.name] == []


def test_settings_know_its_variable() -> None:
    assert os.environ["TRACKKIT_INDEX"]
    load_config()


def test_a_run_is_listed_once_newest_last_and_gone_ones_are_dropped(tmp_path: Path) -> None:
    first, second, third = folders(tmp_path, "a", "b", "c")
    for folder in (first, second, third, first):
        index.remember(folder, folder.name, "p", "offline")
    shutil.rmtree(second)
    with index.index_path().open("a") as file:
        file.write('{"folder": "/cut\n{"folder": 3}\nnull\n')
    assert [entry.run_id for entry in index.entries()] == ["c", "a"]
    index.compact()
    lines = index.index_path().read_text().splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == ["c", "a"]
    index.remember(third, "c", None, "auto")
    assert [entry.run_id for entry in index.entries()] == ["a", "c"]


def test_a_folder_that_is_away_is_remembered(tmp_path: Path) -> None:
    """As on a login node without the scratch; what was deleted from a folder that is there is dropped."""
    for root in ("away", "old", "synced", "here"):
        index.remember(folders(tmp_path / root, root)[0], root, "p", "offline")
    index.mark([entry for entry in index.entries() if entry.run_id == "synced"], "https://server")
    shutil.rmtree(folders(tmp_path / "here", "deleted")[0])
    index.remember(tmp_path / "here" / "trackkit-runs" / "deleted", "deleted", "p", "offline")
    path = index.index_path()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["time"] -= index.FORGOTTEN_S
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for root in ("away", "old", "synced"):
        (tmp_path / root).rename(tmp_path / f"{root}.mnt")
    for _ in range(2):
        assert [entry.run_id for entry in index.entries()] == ["here"]
        assert [entry.run_id for entry in index.missed()] == ["away"]
        index.compact()
    (tmp_path / "away.mnt").rename(tmp_path / "away")
    assert [entry.run_id for entry in index.entries()] == ["away", "here"]
    assert index.missed() == []


def test_a_run_that_starts_again_is_no_longer_synced(tmp_path: Path) -> None:
    (folder,) = folders(tmp_path, "a")
    index.remember(folder, "a", "p", "offline")
    before = index.entries()
    index.mark(before, "https://server")
    assert [entry.synced for entry in index.entries()] == ["https://server"]
    time.sleep(0.01)
    index.remember(folder, "a", "p", "offline")
    index.mark(before, "https://server")
    assert [entry.synced for entry in index.entries()] == [""]


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    """No line is lost, torn or doubled, while some of them compact the file again and again."""
    code = """
import sys
from pathlib import Path
from trackkit.local_log import index
for number in range(100):
    folder = Path(sys.argv[1]) / f"{sys.argv[2]}-{number}"
    folder.mkdir()
    index.remember(folder, folder.name, "p" * 300, "offline")
    index.remember(folder / "gone", "gone", "p" * 300, "offline")
    if number % 10 == 0:
        index.compact()
"""
    env = clean_env(TRACKKIT_INDEX=str(index.index_path()))
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(run_python, code, str(tmp_path), str(name), cwd=tmp_path, env=env) for name in range(4)]
        assert [run.result().stderr for run in runs] == [""] * 4
    wanted = sorted(f"{name}-{number}" for name in range(4) for number in range(100))
    index.compact()
    lines = [json.loads(line) for line in index.index_path().read_text().splitlines()]
    assert sorted(line["run_id"] for line in lines) == wanted
    assert sorted(entry.run_id for entry in index.entries()) == wanted


def test_a_training_goes_on_where_it_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "file" / "index.jsonl"))
    module = Silent()
    trainer([TrackKit(sinks=[])]).fit(module, data())
    assert len(module.losses) == 7
    assert index.entries() == []
    index.compact()


@pytest.mark.parametrize("name", ["HOME", "TRACKKIT_INDEX"])
def test_a_user_without_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A container may run as a user whom it knows no home of, and give a path below one."""
    monkeypatch.setenv("TRACKKIT_INDEX", "~nobody-knows-me/index.jsonl")
    if name == "HOME":
        monkeypatch.delenv("TRACKKIT_INDEX")
        monkeypatch.setenv("XDG_STATE_HOME", "~nobody-knows-me")
    with pytest.raises(RuntimeError):
        index.index_path()
    (folder,) = folders(tmp_path, "a")
    index.remember(folder, "a", "p", "offline")
    index.mark([index.Entry(str(folder), "a")], "https://server")
    index.compact()
    assert index.entries() == index.missed() == []
    assert index.state_folders() == [Path(tempfile.gettempdir()) / f"trackkit-{os.getuid()}"]
