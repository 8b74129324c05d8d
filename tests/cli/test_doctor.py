"""`trackkit doctor`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.processes import clean_env
from tests.support.warm import run_module
from tests.wandb_server import WandbServer
from trackkit.engine.processes import process_fields
from trackkit.local_log.index import remember


def doctor(folder: Path, code: int = 0, **env: str) -> dict[str, tuple[str, str]]:
    """Returns state and text of each topic."""
    done = run_module("trackkit.cli.main", "doctor", cwd=folder, env={**clean_env(), **env})
    assert done.returncode == code, done.stdout + done.stderr
    found = {}
    for line in done.stdout.splitlines():
        state, _, rest = line.partition(" ")
        topic, _, text = rest.strip().partition(": ")
        found[topic] = (state, text)
    assert found["trackkit"][0] == found["wandb"][0] == "ok"
    assert {found[f"private names of {name}"] for name in ("wandb", "lightning", "transformers", "torch")} == {
        ("ok", "all found")
    }
    return found


def test_key_and_server_are_checked(wandb_server: WandbServer, tmp_path: Path) -> None:
    env = wandb_server.env(tmp_path)
    assert doctor(tmp_path, **env)["W&B"] == ("ok", f"{env['WANDB_BASE_URL']} answers and accepts the API key")
    state, text = doctor(tmp_path, 1, **{**env, "WANDB_API_KEY": "f" * 40})["W&B"]
    assert (state, "rejected the API key (HTTP 401). Run `wandb login" in text) == ("broken", True)
    wandb_server.faults.set("refuse")
    state, text = doctor(tmp_path, **env)["W&B"]
    assert (state, "Runs are recorded offline until it answers." in text) == ("note", True)


def test_folders_and_unsynced_runs_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = str(tmp_path / "index" / "runs.jsonl")
    env = {"WANDB_API_KEY": "", "NETRC": str(tmp_path / "none"), "TRACKKIT_INDEX": listed}
    monkeypatch.setenv("TRACKKIT_INDEX", listed)
    assert doctor(tmp_path, **env)["runs"] == ("ok", "0 listed, none waits for `trackkit sync`")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        remember(tmp_path / name, name, "p", "auto")
    assert doctor(tmp_path, **env)["runs"][1].startswith("2 of 2 were not verified on a server. Run `trackkit sync`")
    (tmp_path / "file").write_text("")
    found = doctor(tmp_path, 1, **{**env, "TRACKKIT_INDEX": str(tmp_path / "file" / "runs.jsonl")})
    assert found["list of runs"][0] == "broken"
    assert found["W&B"][0] == "note"


def test_writers_of_runs_and_the_configured_folder_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", listed := str(tmp_path / "index" / "runs.jsonl"))
    (tmp_path / "file").write_text("")
    mine = {**process_fields(), "status": "running"}
    runs = {
        "alive": mine,
        "gone": {**mine, "pid": 2**22 + 1},
        "far": {**mine, "host": "far"},
        "over": {**mine, "ended": 1.0},
    }
    for run_id, fields in runs.items():
        (tmp_path / run_id).mkdir()
        (tmp_path / run_id / "run.json").write_text(json.dumps({"run_id": run_id, **fields}))
        remember(tmp_path / run_id, run_id, "p", "auto")
    env = {"WANDB_API_KEY": "", "NETRC": str(tmp_path / "none"), "TRACKKIT_INDEX": listed}
    found = doctor(tmp_path, 1, **env, WANDB_DIR=str(tmp_path / "file"))
    assert found["dir"][0] == "broken"
    assert found["lock of alive"] == ("ok", f"held by process {os.getpid()} on {mine['host']}, which is alive")
    assert found["lock of gone"][1].startswith("stale: process 4194305 on ")
    assert found["lock of far"][1].startswith(f"process {os.getpid()} on far may hold it")
    assert "lock of over" not in found
