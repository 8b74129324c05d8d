"""`trackkit show`: one page about a run, finished, live or damaged."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.local_log import write_run
from tests.support.processes import ROOT, clean_env
from trackkit.cli.main import app
from trackkit.local_log.samples import NAME, SamplesFile

ROWS = [{"batch/step": step, "batch/loss": 1 / step, "batch/lr": 0.1} for step in range(1, 41)]
ROWS += [{"epoch/step": 40, "epoch/val/loss": 0.5}]

# A training that takes a step every 50 ms, as the local log has it.
LIVE = """
import json, sys, time
from pathlib import Path
from trackkit.engine.processes import process_fields
folder = Path(sys.argv[1]) / "_trackkit" / "live"
folder.mkdir(parents=True)
fields = {"run_id": "live", "name": "live", "status": "running", "started": time.time(), **process_fields()}
(folder / "config.json").write_text("{}")
(folder / "run.json").write_text(json.dumps(fields))
for step in range(1, 101):
    with open(folder / "rows.jsonl", "a") as rows:
        rows.write(json.dumps({"_row": step, "_time": time.time(), "batch/step": step, "batch/loss": 1 / step}) + "\\n")
    time.sleep(0.05)
(folder / "summary.json").write_text(json.dumps({"final/status": "finished", "final/steps": 100}))
(folder / "run.json").write_text(json.dumps({**fields, "status": "finished", "ended": time.time(), "exit_code": 0}))
"""


@pytest.fixture(autouse=True)
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index.jsonl"))


def show(*words: str | Path) -> str:
    done = CliRunner().invoke(app, ["show", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_page_has_what_the_run_is_its_results_curves_and_places(tmp_path: Path) -> None:
    summary = {"final/val/loss": 0.5, "final/best/val/loss": 0.25, "final/best/val/loss_step": 20, "final/steps": 40}
    config = {"trackkit/settings/project": "p", "trackkit/settings/group": "g", "hparams/lr": 0.1, "optim/lr": 0.1}
    write_run(tmp_path, "before", {**config, "hparams/lr": 0.2, "optim/lr": 0.2}, started=0.5)
    folder = write_run(tmp_path, "a", config, summary | {"final/cost_usd": 2.5}, ROWS)
    page = show(folder)
    assert page.startswith("name-a  (a)\nfinished, 40 steps, 30 min, started ")
    assert "project p, group g, $2.50" in page
    assert ["val/loss", "0.5", "0.25", "20"] in [line.split() for line in page.splitlines()]
    assert ["40", "0.025", "0.5", "0.1"] in [line.split() for line in page.splitlines()]
    assert "Different from the run before it, name-before (before)\n  hparams/lr: 0.2 -> 0.1\n\n" in page
    assert f"{folder}/  config.json, rows.jsonl, run.json, summary.json" in page


def test_page_counts_the_tables_of_samples(tmp_path: Path) -> None:
    """A hostile key can't act on the terminal."""
    folder = write_run(tmp_path, "a", {}, {}, ROWS)
    for step in (1, 2):
        SamplesFile(folder / NAME).write({"samples/completions": "one text", f"samples/{step}\x1b[31m": "text"}, step)
    page = show(folder)
    assert "2 tables of samples/completions: RecordedRun.samples" in page
    assert "1 table of samples/1" in page
    assert "\x1b[31m" not in page


def test_previous_run_is_found_beside_the_output_folder(tmp_path: Path) -> None:
    config = {"trackkit/settings/group": "g", "hparams/lr": 0.1}
    write_run(tmp_path / "first", "first", config)
    assert "hparams/lr: 0.1 -> 0.2" in show(
        write_run(tmp_path / "second", "b", {**config, "hparams/lr": 0.2}, started=2.0)
    )


def test_killed_run_has_results_from_its_rows_and_hostile_texts_do_no_harm(tmp_path: Path) -> None:
    rows = [{"epoch/step": step, "epoch/val/acc": acc} for step, acc in ((10, 0.5), (20, 0.75), (30, 0.7))]
    rows.append({"batch/step": 30, "batch/iter_num": 100})
    name = "[red]\x1b[2J\nb\ud800"
    config = {"trackkit/settings/notes": "\x1b]0;x\x07", "trackkit/settings/tags": "[/]"}
    page = show(write_run(tmp_path, "killed", config, rows=rows, status="failed", name=name))
    assert page.startswith("[red] [2J b   (killed)\nfailed, 30 of 100 steps, 30 min, ")
    assert "tags [/], notes  ]0;x \n" in page
    assert ["val/acc", "0.7", "0.75", "20"] in [line.split() for line in page.splitlines()]


def test_values_of_wrong_types_do_no_harm(tmp_path: Path) -> None:
    rows = [
        {"batch/step": 1, "batch/loss": 10**400},
        {"batch/step": 2, "batch/loss": "x"},
        {"batch/step": 3, "_row": 10**400},
    ]
    summary = {"final/steps": "x", "final/duration_h": [], "final/val/loss": {}, "final/best/val/loss_step": None}
    config = {"runtime/host": 7, "trackkit/settings/group": ["g"], "trackkit/settings/callbacks": 5}
    folder = write_run(tmp_path, "odd", config, summary, rows, framework=1.5, tags={"a": 1}, name=8)
    page = show(folder)
    assert page.startswith("odd  (odd)\nfinished, x steps, 30 min, ")
    assert "1.5 on 7" in page
    assert CliRunner().invoke(app, ["ls", str(tmp_path)]).exit_code == 0


def test_damaged_and_empty_runs_have_a_page(tmp_path: Path) -> None:
    (write_run(tmp_path / "bad", "bad", {"hparams/lr": 0.1}, rows=ROWS) / "run.json").write_text('{"run_')
    page = show(tmp_path / "bad")
    assert "run.json of '" in page
    assert ["40", "0.025", "0.5", "0.1"] in [line.split() for line in page.splitlines()]
    assert "No rows." in show(write_run(tmp_path, "empty", rows=[]))
    done = CliRunner().invoke(app, ["show", str(write_run(tmp_path / "new", "new", format=99))])
    assert (done.exit_code, "has format 99" in done.stderr) == (1, True)
    for number in range(8):
        write_run(tmp_path / "many", f"r{number}")
    done = CliRunner().invoke(app, ["show", str(tmp_path / "many")])
    assert (done.exit_code, "8 runs in" in done.stderr, "and 3 more. Give" in done.stderr) == (1, True, True)


def test_live_run_is_followed_until_it_ends(tmp_path: Path) -> None:
    training = subprocess.Popen([sys.executable, "-c", LIVE, str(tmp_path)], env=clean_env(), cwd=ROOT)
    while not (tmp_path / "_trackkit/live/rows.jsonl").exists():
        assert training.poll() is None
        time.sleep(0.05)
    page = show(tmp_path, "--watch")
    assert training.wait(60) == 0
    lines = page.splitlines()
    assert lines[0].startswith("step ")
    assert ", batch/loss 0." in lines[1]
    assert "finished, 100 steps" in page
    assert os.environ["TRACKKIT_INDEX"]
