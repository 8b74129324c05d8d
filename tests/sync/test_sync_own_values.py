"""What users log to W&B themselves arrives once: tables, pictures, summary values, definitions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.support.syncing import plain_wandb_sync, row_of, sync, wandb_files
from tests.support.warm import run_script
from tests.wandb_server import WandbServer

# A process of a run that is recorded offline; `{body}` is the user's code.
PROGRAM = """
import sys, wandb
run = wandb.init(project="p", id="r1", mode="offline", settings=wandb.Settings(x_disable_stats=True))
{body}
run.finish()
"""
TABLE = """
for step in range(24):
    run.log({"mine/a": step, "nested": {"deep": {"er": step}}}, step=step)
run.log({"own/tab": wandb.Table(columns=["a"], data=[[1], [2]]), "own/page": wandb.Html("<b>x</b>")}, step=24)
"""
FIRST = """
run.define_metric("own/*", summary="max")
run.summary["mine/best"] = 0.75
run.summary["mine/nested"] = {"a": 1}
for step in range(5):
    run.log({"own/x": 10 - step, "mine/a": step}, step=step)
run.alert("first", "text")
"""
SECOND = """
run.define_metric("later", step_metric="mine/a")
run.summary["mine/second"] = 2
for step in range(5, 10):
    run.log({"own/x": 10 - step, "later": step, "mine/a": step}, step=step)
"""


def program(root: Path, body: str) -> None:
    root.mkdir(exist_ok=True)
    done = run_script(PROGRAM.replace("{body}", body), cwd=root)
    assert done.returncode == 0, done.stderr


def rows_with(server: WandbServer, key: str) -> list[Any]:
    return [row[key] for row in server.state.run("r1").history if key in row]


def test_run_with_a_table_sent_by_wandb_sync_is_complete_as_it_is(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    program(root, TABLE)
    plain_wandb_sync(wandb_server, tmp_path, *wandb_files(root))
    before = wandb_server.state.run("r1").history
    for _ in range(2):
        printed = sync(wandb_server, tmp_path, root)
        assert row_of(printed, "r1")[-1] in ("complete", "unchanged")
        assert "uploading" not in printed
    assert wandb_server.state.run("r1").history == before


def test_run_with_a_table_is_sent_whole(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    program(root, TABLE)
    (path,) = wandb_files(root)
    plain_wandb_sync(wandb_server, tmp_path, path)
    expected = wandb_server.state.run("r1")
    with WandbServer() as other:
        assert row_of(sync(other, tmp_path, root), "r1")[-1] == "complete"
        found = other.state.run("r1")
        assert found.history == expected.history
        (table,) = rows_with(other, "own/tab")
        assert found.files[table["path"]].data == expected.files[table["path"]].data is not None
        own = {key: value for key, value in expected.summary.items() if key[0] != "_"}
        assert {key: value for key, value in found.summary.items() if key[0] != "_"} == own
        assert {name for name in expected.files if name.startswith("media/")} <= found.files.keys()


def test_row_with_a_table_lost_by_the_server_is_sent_again(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    program(root, TABLE)
    plain_wandb_sync(wandb_server, tmp_path, *wandb_files(root))
    del wandb_server.state.run("r1").streams["wandb-history.jsonl"]["", 24]
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert len(rows_with(wandb_server, "own/tab")) == 1
    assert rows_with(wandb_server, "mine/a") == list(range(24))


def test_summary_and_definitions_of_every_attempt_are_kept(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    program(root, FIRST)
    time.sleep(1.1)
    program(root, SECOND)
    assert len(wandb_files(root)) == 2
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    run = wandb_server.state.run("r1")
    assert rows_with(wandb_server, "mine/a") == list(range(10))
    assert (run.summary["mine/best"], run.summary["mine/second"], run.summary["mine/nested"]) == (0.75, 2, {"a": 1})
    assert run.summary["mine/a"] == 9
    definitions = str(run.raw_config["_wandb"])
    assert "own/*" in definitions
    assert "later" in definitions
    assert len(wandb_server.state.alerts) == 1
    (root / "_trackkit" / "wandb" / "sync.json").unlink(missing_ok=True)
    for path in root.rglob("sync.json"):
        path.unlink()
    assert "uploading" not in sync(wandb_server, tmp_path, root)
    del run.summary["mine/best"]
    for path in root.rglob("sync.json"):
        path.unlink()
    assert "uploading summary" in sync(wandb_server, tmp_path, root)
    assert wandb_server.state.run("r1").summary["mine/best"] == 0.75
    assert len(wandb_server.state.alerts) == 1
