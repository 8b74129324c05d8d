"""The user's list of runs: where it is, that processes can write it at once, and that it never fails a training."""

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
from tests.support.warm import run_script
from trackkit import TrackKit
from trackkit.local_log import index
from trackkit.settings.sources import load_config


def folders(root: Path, *names: str) -> list[Path]:
    made = [root / "_trackkit" / name for name in names]
    for folder in made:
        folder.mkdir(parents=True)
    return made


def test_path_of_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_training_is_listed_and_writes_nothing_to_the_home_folder(tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    code = """
from tests.support.lightning_toys import Silent, data, trainer
from trackkit import TrackKit
trainer([TrackKit(project="p")]).fit(Silent(), data())
"""
    env = clean_env(HOME=str(home), WANDB_DIR=str(scratch), WANDB_RUN_ID="abc")
    del env["TRACKKIT_INDEX"]
    done = run_script(code, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    (line,) = (scratch / "trackkit-runs.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["run_id"], entry["project"], entry["mode"]) == ("abc", "p", "offline")
    assert (Path(entry["folder"]) / "rows.jsonl").is_file()
    assert [path for path in home.rglob("*") if "trackkit" in path.name] == []


def test_variable_of_the_list_is_no_unknown_setting() -> None:
    assert os.environ["TRACKKIT_INDEX"]
    load_config()


def test_run_is_listed_once_by_newest_start_and_dropped_without_its_folder(tmp_path: Path) -> None:
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


def test_restarted_run_is_no_longer_synced(tmp_path: Path) -> None:
    (folder,) = folders(tmp_path, "a")
    index.remember(folder, "a", "p", "offline")
    before = index.entries()
    index.mark(before, "https://server")
    assert [entry.synced for entry in index.entries()] == ["https://server"]
    time.sleep(0.01)
    index.remember(folder, "a", "p", "offline")
    index.mark(before, "https://server")
    assert [entry.synced for entry in index.entries()] == [""]


def test_processes_write_and_compact_at_once(tmp_path: Path) -> None:
    """No line is lost, torn or doubled while processes compact the file again and again."""
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


def test_training_continues_if_the_list_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "file" / "index.jsonl"))
    module = Silent()
    trainer([TrackKit(sinks=[])]).fit(module, data())
    assert len(module.losses) == 7
    assert index.entries() == []
    index.compact()


@pytest.mark.parametrize("name", ["HOME", "TRACKKIT_INDEX"])
def test_user_without_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A container may run as a user without a home folder, and set a path below one."""
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
    assert index.entries() == []
    assert index.state_folders() == [Path(tempfile.gettempdir()) / f"trackkit-{os.getuid()}"]
