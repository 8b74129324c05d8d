"""`trackkit clean` shows, and with `--yes` deletes, the checkpoints of old runs that nothing protects."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.processes import ROOT
from tests.support.saving import states
from tests.support.syncing import sync
from tests.wandb_server import WandbServer
from tests.wandb_server.artifacts import Portfolio, Version
from tests.wandb_server.client import run, start
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import read_ledger
from trackkit.cli.main import app
from trackkit.engine.processes import process_fields

pytestmark = pytest.mark.timeout(180)

SAVE = """
from math import nan
from pathlib import Path
from tests.support.saving import Saver
saver = Saver(Path({out!r}).absolute(), {mode!r}, run_id={out!r}, finish_timeout=10.0, upload="all", keep=100)
for step, value in enumerate({values!r}):
    saver.save(step, value, {out!r}.encode() + b" %d" % step)
saver.close()
"""
# Dies as soon as the server has deleted the first version.
KILLED = """
import os, sys
from trackkit.integrations.wandb.artifacts import Artifacts
delete = Artifacts.delete
def deleted(self, entry, used=False):
    delete(self, entry, used)
    os._exit(9)
Artifacts.delete = deleted
from trackkit.cli.main import app
app(["clean", "a", "--keep", "1", "--yes"])
"""


def env(home: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "TRACKKIT_INDEX": str(home / "index.jsonl")}


def save(server: WandbServer, home: Path, out: str, values: list[float], mode: str = "online") -> Path:
    """Records a run and, if it is online, syncs it; returns its folder."""
    run(server, home, SAVE.format(out=out, values=values, mode=mode), env(home))
    if mode == "online":
        sync(server, home, home / out, TRACKKIT_INDEX=str(home / "index.jsonl"))
    return home / out / "_trackkit" / out


def clean(server: WandbServer, home: Path, *words: str | Path, code: int = 0) -> list[str]:
    """Runs `trackkit clean`; returns the lines that it printed."""
    process = start(server, home, ["-m", "trackkit.cli.main", "clean", *map(str, words)], env(home))
    assert process.wait() == code, process.stdout + process.stderr
    assert "Traceback" not in process.stderr, process.stderr
    return (process.stdout + process.stderr).splitlines()


def entries(home: Path, out: str) -> list[Entry]:
    return read_ledger(home / out / "_trackkit" / out)


def versions(server: WandbServer) -> list[Version]:
    return server.state.collection("model-toy").versions


def live(server: WandbServer) -> list[str]:
    return [each.name for each in server.state.collection("model-toy").live]


def test_only_what_nothing_protects_is_deleted(wandb_server: WandbServer, tmp_path: Path) -> None:
    folder = save(wandb_server, tmp_path, "a", [0.9, 0.6, 0.5, 3.0, 2.0, 1.0, 0.9, 0.8, 0.7])
    save(wandb_server, tmp_path, "b", [0.4])
    sync(wandb_server, tmp_path, tmp_path / "a", TRACKKIT_INDEX=str(tmp_path / "index.jsonl"))
    all_versions = versions(wandb_server)
    all_versions[3].aliases.append("mine")
    portfolio = Portfolio("P", "test-team-org", "wandb-registry-model", "resnet")
    wandb_server.state.portfolios["test-team-org", "wandb-registry-model", "resnet"] = portfolio
    portfolio.link(all_versions[4], [])
    wandb_server.state.run("b").input_artifacts.append(all_versions[5].id)
    # What a crash has left: one that is committed, one that nothing knows, and one that is not the run's.
    for name in ("7", "99"):
        (folder / "checkpoints" / name).mkdir(parents=True)
        (folder / "checkpoints" / name / "left.ckpt").write_bytes(b"12345")
    (folder / "checkpoints" / "6").symlink_to(tmp_path / "a" / "saves")
    before = [each.state for each in all_versions]
    lines = clean(wandb_server, tmp_path, "a", "--keep", "2")
    assert [line.split() for line in lines[:-1]] == [
        ["run", "step", "W&B", "here", "version"],
        ["a", "0", "3", "B", "model-toy:v0"],
        ["a", "6", "3", "B", "5", "B", "model-toy:v6"],
    ]
    assert lines[-1] == "Would delete: 2 versions in W&B (6 B), 5 B here. Nothing is deleted without --yes."
    assert [each.state for each in all_versions] == before
    assert clean(wandb_server, tmp_path, "a", "--keep", "2", "--yes")[-1] == (
        "Deleted: 2 versions in W&B (6 B), 5 B here."
    )
    assert live(wandb_server) == ["v1", "v2", "v3", "v4", "v5", "v7", "v8", "v9"]
    assert [each.number for each in entries(tmp_path, "a") if each.state == "deleted"] == [1, 7]
    assert sorted(os.listdir(folder / "checkpoints")) == ["6", "99"]
    assert len(os.listdir(tmp_path / "a" / "saves")) == 9
    process = start(wandb_server, tmp_path, ["-m", "trackkit.cli.main", "checkpoints", "test-team/p/a"], env(tmp_path))
    assert process.wait() == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "7 versions in W&B, 21 B."
    assert process.stdout.splitlines()[3].split() == ["2", "0.2", "0.5", "3", "B", "committed", "v2", "was-best"]
    # It stays verified, and a full sync uploads nothing anew.
    assert clean(wandb_server, tmp_path, "--keep", "2", "--yes")[-1] == "Deleted: 0 versions in W&B (0 B), 0 B here."
    (folder / "sync.json").unlink()
    assert " complete" in sync(wandb_server, tmp_path, tmp_path / "a")
    assert live(wandb_server) == ["v1", "v2", "v3", "v4", "v5", "v7", "v8", "v9"]
    assert wandb_server.state.unserved == []


def test_runs_that_are_not_old_or_not_verified_are_left_alone(wandb_server: WandbServer, tmp_path: Path) -> None:
    folder = save(wandb_server, tmp_path, "a", [0.5, math.nan, 2.0])
    offline = save(wandb_server, tmp_path, "b", [0.5, 3.0, 2.0], "offline")
    lines = clean(wandb_server, tmp_path, "--older-than", "12h", "--yes")
    assert lines == [
        "a: left alone: it has ended later than that",
        f"b: left alone: no sync has verified it since its last change: run `trackkit sync {offline}` first",
        "Deleted: 0 versions in W&B (0 B), 0 B here.",
    ]
    assert live(wandb_server) == ["v0", "v1", "v2"]
    fields = json.loads((folder / "run.json").read_text())
    running = {key: value for key, value in fields.items() if key not in ("ended", "exit_code")}
    (folder / "run.json").write_text(json.dumps({**running, **process_fields(), "status": "running"}))
    assert clean(wandb_server, tmp_path, "a", "--keep", "0", "--yes")[0] == "a: left alone: it is still being written"
    (folder / "run.json").write_text(json.dumps(fields))
    sync(wandb_server, tmp_path, tmp_path / "a")
    # Where the staging is a link, what is in it may be somebody else's.
    (folder / "checkpoints").symlink_to(tmp_path / "a" / "saves")
    assert "is a link to another place" in clean(wandb_server, tmp_path, "a", "--keep", "0", "--yes")[0]
    (folder / "checkpoints").unlink()
    fields["ended"] -= 13 * 3600
    (folder / "run.json").write_text(json.dumps(fields))
    sync(wandb_server, tmp_path, tmp_path / "a")
    assert "1 version in W&B" in clean(wandb_server, tmp_path, "a", "--older-than", "12h", "--yes")[-1]
    assert live(wandb_server) == ["v0", "v2"]


def test_kill_and_silent_server_lose_nothing(wandb_server: WandbServer, tmp_path: Path) -> None:
    folder = save(wandb_server, tmp_path, "a", [0.5, 3.0, 2.0, 1.0])
    wandb_server.faults.set("http_500")
    lines = clean(wandb_server, tmp_path, "a", "--keep", "1", "--yes", code=1)
    assert any(line.startswith("a: not all is done: ") for line in lines)
    wandb_server.faults.clear()
    assert live(wandb_server) == ["v0", "v1", "v2", "v3"]
    process = start(wandb_server, tmp_path, KILLED, env(tmp_path))
    assert process.wait() == 9, process.stdout + process.stderr
    assert live(wandb_server) == ["v0", "v2", "v3"]
    assert set(states(entries(tmp_path, "a")).values()) == {"committed"}
    assert clean(wandb_server, tmp_path, "a", "--keep", "1", "--yes")[-1].startswith("Deleted: 1 version in W&B")
    assert states(read_ledger(folder)) == {0: "committed", 1: "deleted", 2: "deleted", 3: "committed"}
    assert "nothing to upload" in sync(wandb_server, tmp_path, tmp_path / "a")


@pytest.mark.parametrize("words", [[], ["--older-than", "30"], ["--older-than", "-3d"], ["--keep", "-1"]])
def test_limits_must_be_given_and_make_sense(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["clean", *words])
    assert done.exit_code == 2
    assert "give --keep" in done.output or re.search(
        "such as 12h|greater than or equal to 0", " ".join(done.output.split())
    )
