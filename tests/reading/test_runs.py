"""`trackkit.runs`: many runs as one collection, from folders, the user's list and a server."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import trackkit
from tests.support.local_log import write_run
from tests.support.processes import clean_env, run_python
from tests.wandb_server.client import run as run_client
from tests.wandb_server.server import WandbServer
from trackkit.local_log.regular import ReadError
from trackkit.reading.expression import ExpressionError
from trackkit.record.run_config import flatten


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """A sweep: one output folder per run, one of them without learning rate and results."""
    for number, (run_id, lr, loss) in enumerate((("a", 1e-2, 0.5), ("b", 1e-3, 0.25), ("c", 1e-2, 0.75))):
        best = {"final/best/val/loss": loss, "final/best/val/loss_step": 5, "final/val/odd": number}
        config = {"hparams/lr": lr, "git/commit": "1234567890", "git/dirty": run_id == "b"}
        config["trackkit/settings/tags"] = ["local", run_id]
        summary = {**best, "final/steps": 10 * (number + 1)}
        write_run(tmp_path / f"sweep/{run_id}", run_id, config, summary, started=100.0 + number)
    write_run(tmp_path / "other", "d")
    return tmp_path


def ids(runs: Any) -> list[str]:
    return [run.run_id for run in runs]


@pytest.mark.parametrize("path", ["./missing", "../missing", "~/missing", "~/missing/run"])
def test_local_path_is_not_asked_of_a_server(path: str) -> None:
    with pytest.raises(ReadError, match="it is neither a folder nor an id in your list"):
        trackkit.runs(path)


def test_runs_of_a_folder_are_filtered_sorted_grouped_and_ranked(four: Path) -> None:
    runs = trackkit.runs(four)
    assert ids(runs) == ["d", "a", "b", "c"]
    assert ids(runs.filter("hparams/lr > 1e-3 and 'c' not in tags")) == ["a"]
    assert ids(runs.filter("commit == '1234567*'")) == ["b"]
    assert ids(runs.sort("best")) == ["b", "a", "c", "d"]
    assert ids(runs.sort("final/best/val/loss", descending=True)) == ["c", "a", "b", "d"]
    assert runs.best("val/loss").run_id == "b"
    assert runs.best("val/odd", goal="max").run_id == "c"
    assert {key: ids(group) for key, group in runs.group("hparams/lr").items()} == {
        1e-3: ["b"],
        1e-2: ["a", "c"],
        None: ["d"],
    }
    tags = {tag: ids(group) for tag, group in runs.group("tag").items()}
    assert tags == {"a": ["a"], "b": ["b"], "c": ["c"], "local": ["a", "b", "c"], None: ["d"]}
    assert runs.column("final/best/val/loss * 2") == [None, 1.0, 0.5, 1.5]
    assert [row["steps"] for row in runs.table] == [7, 10, 20, 30]
    assert runs.table[1]["duration_h"] == 0.5
    table = runs.to_pandas()
    assert (len(table), list(table["final/best/val/loss"][1:])) == (4, [0.5, 0.25, 0.75])
    assert math.isnan(table["hparams/lr"][0])
    assert ids(runs[1:3]) == ["a", "b"]
    assert ids(trackkit.runs([four / "other", four / "sweep" / "b"])) == ["d", "b"]


def test_wrong_names_are_answered_with_the_right_ones(four: Path) -> None:
    runs = trackkit.runs(four)
    with pytest.raises(ExpressionError, match="unknown key 'lr'; did you mean 'hparams/lr'"):
        runs.filter("lr > 1")
    with pytest.raises(ReadError, match="'val/odd' does not say whether less or more is better"):
        runs.best("val/odd")
    with pytest.raises(ReadError, match="none of 1 runs has a value of 'val/loss'"):
        runs.filter("id == 'd'").best("val/loss")
    with pytest.raises(ReadError, match="no run 'nothing'"):
        trackkit.runs("nothing")


def test_runs_are_shown_short_in_python_and_as_a_table_in_a_notebook(four: Path) -> None:
    runs = trackkit.runs(four)
    shown = f"  RecordedRun(d 'name-d', finished in '{four}/other/_trackkit/d')"
    assert repr(runs).splitlines()[:2] == ["4 runs", shown]
    assert "<td>0.25</td>" in runs._repr_html_()
    assert "name-b" in runs[2]._repr_html_()


def test_damaged_run_is_shown_as_such_and_the_others_go_on(four: Path) -> None:
    (four / "other/_trackkit/d/run.json").write_text('{"run_id": "d", "format": 99}')
    runs = trackkit.runs(four)
    damaged = runs.filter("status == 'damaged'")
    assert (ids(damaged), len(runs), damaged[0].rows) == (["d"], 4, ())
    assert "has format 99" in damaged.table[0]["error"]


@pytest.mark.parametrize("damage", ['{"run_id": "d", "na', "", "[1]", "\x00" * 9])
@pytest.mark.parametrize("name", ["run.json", "config.json", "summary.json"])
def test_damaged_file_makes_a_run_damaged_but_hides_no_other(tmp_path: Path, name: str, damage: str) -> None:
    folder = write_run(tmp_path, "d", {"hparams/lr": 0.1}, {"final/steps": 5})
    (folder / name).write_text(damage)
    (run,) = trackkit.runs(tmp_path)
    assert (run.run_id, run.status) == ("d", "damaged")
    assert f"{name} of '{folder}' can't be read" in run.run["error"]
    assert (run.config or run.summary, len(run.rows)) != ({}, 0)
    assert trackkit.read_run(folder).status == "damaged"


def test_runs_that_were_killed_have_hours_and_a_bill(tmp_path: Path) -> None:
    options = {"callbacks": {"final_summary": {"price_per_gpu_hour": 2.5}}}
    config = {"runtime/gpu_count": 8, **flatten("trackkit/settings", options)}
    rows = [{"batch/step": 1, "_time": 1.0 + 3600}, {"batch/step": 2, "_time": 1.0 + 7200}]
    write_run(tmp_path, "killed", config, None, rows, status="failed", ended=None)
    (row,) = trackkit.runs(tmp_path).table
    assert (row["duration_h"], row["gpu_hours"], row["cost"]) == (2.0, 16.0, 40.0)


def test_rows_are_read_only_when_asked_for(four: Path) -> None:
    runs = trackkit.runs(four / "other")
    (four / "other/_trackkit/d/rows.jsonl").write_text("")
    assert runs[0].rows == []


def test_list_of_the_user_has_every_run_of_this_machine(tmp_path: Path) -> None:
    """A training notes its run there; nothing is synced before a sync has said so."""
    code = """
import trackkit
from trackkit.local_log import index
index.remember(__import__("pathlib").Path("o/_trackkit/a"), "a", "p", "offline")
runs = trackkit.runs()
assert [run.run_id for run in runs] == ["a"], runs
assert runs.table[0]["synced"] is False
index.mark(index.entries(), "http://server")
assert trackkit.runs().table[0]["synced"] is True
"""
    write_run(tmp_path / "o", "a")
    done = run_python(code, cwd=tmp_path, env=clean_env(TRACKKIT_INDEX=str(tmp_path / "index.jsonl")))
    assert done.returncode == 0, done.stderr


def test_project_on_a_server_is_a_collection(wandb_server: WandbServer, tmp_path: Path) -> None:
    writing = """
import wandb
for name, loss in (("r1", 0.5), ("r2", 0.25)):
    run = wandb.init(project="p", id=name, name=f"run {name}", group="g", config={"hparams/lr": loss})
    run.log({"batch/step": 1, "batch/loss": loss}, step=1)
    run.summary["final/best/val/loss"], run.summary["final/best/val/loss_step"] = loss, 1
    run.finish()
"""
    run_client(wandb_server, tmp_path, writing)
    reading = """
import json, trackkit
from trackkit.reading.runs import neighbors
runs = trackkit.runs("test-team/p")
best = runs.filter("group == 'g'").best("val/loss")
print(json.dumps([runs.column("id"), best.run_id, best.series("loss"), runs.table[0]["synced"]]))
print(json.dumps([runs.column("project"), [run.run_id for run in neighbors(best)]]))
try:
    trackkit.runs("test-team/none")
except trackkit.TrackKitError as error:
    print(error)
"""
    first, second, third = run_client(wandb_server, tmp_path, reading).splitlines()[:3]
    assert json.loads(first) == [["r1", "r2"], "r2", [[1, 0.25]], True]
    assert json.loads(second) == [["p", "p"], ["r1"]]
    assert third.startswith("'test-team/none' is not a folder, and cannot be read from a W&B server: ")
