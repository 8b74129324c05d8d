"""`trackkit compare`: the page and its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.text import Text
from typer.testing import CliRunner

from tests.support.local_log import write_run
from tests.support.report_page import Page
from trackkit.cli.main import app


def test_two_runs_are_set_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index.jsonl"))
    monkeypatch.chdir(tmp_path)
    for name, lr in (("a", 0.1), ("b", 0.2)):
        rows = [{"batch/step": step, "batch/loss": lr / step} for step in range(1, 5)]
        write_run(tmp_path / name, name, {"hparams/lr": lr}, {"final/cost_usd": 10 * lr}, rows)
    done = CliRunner().invoke(app, ["compare", "a", "b"])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    for expected in (
        ["A", "a:", "name-a", "(a)"],
        ["hparams/lr", "0.1", "0.2"],
        ["batch/loss", "last", "0.025", "*", "0.05", "+0.025"],
        ["final/cost_usd", "1", "*", "2", "+1"],
        ["4", "0.025", "0.05"],
    ):
        assert expected in lines
    found = json.loads(CliRunner().invoke(app, ["compare", "a", "b", "--json"]).stdout)
    assert found["config"] == {"hparams/lr": [0.1, 0.2]}
    assert next(each for each in found["measures"] if each["name"] == "batch/loss last")["samples"][0]["mean"] == 0.025
    done = CliRunner().invoke(app, ["compare", "a", "b", "--html", "page.html"])
    assert (done.exit_code, done.stderr) == (0, "Wrote 'page.html'.\n")
    assert Page(tmp_path / "page.html").column("hparams/lr") == [0.1, 0.2]
    wrong = CliRunner().invoke(app, ["compare", "a"])
    assert (wrong.exit_code, "takes two runs or groups" in wrong.stderr) == (1, True)


def test_page_fits_a_terminal_and_says_what_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index.jsonl"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.chdir(tmp_path)
    names = "abcdefgh"
    for number, name in enumerate(names):
        rows = [{"batch/step": step, "batch/loss": number + 1 / step} for step in range(1, 5)]
        write_run(tmp_path / name, name, {"hparams/x": float("inf")} if number else {}, {}, rows)
    shown = Text.from_ansi(CliRunner().invoke(app, ["compare", *names]).stdout).plain
    table = shown.partition("Metrics, time")[2].partition("one run tells nothing")[0].splitlines()
    assert max(map(len, table)) <= 80
    assert sum(line.startswith("batch/loss last") for line in table) == 2, "two tables beneath each other"
    assert "A, B, C, D, E, F, G, H: one run tells nothing about chance" in shown
    found = json.loads(CliRunner().invoke(app, ["compare", *names, "--json"]).stdout, parse_constant=pytest.fail)
    assert found["config"]["hparams/x"][:2] == [None, "Infinity"]


def test_damaged_runs_and_extreme_values_cost_only_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index.jsonl"))
    monkeypatch.chdir(tmp_path)
    rows = [{"batch/step": step, "batch/loss": (-1) ** step * 1e308} for step in range(1, 5)]
    write_run(tmp_path / "a", "a", rows=rows, name="\x1b[2Jname")
    write_run(tmp_path / "b", "b")
    write_run(tmp_path / "c", "c", format=99)
    done = CliRunner().invoke(app, ["compare", "a", "b", "c"])
    assert done.exit_code == 0, done.output
    assert "\x1b[2J" not in done.stdout
    assert done.stderr.startswith("Left out: 'c' has no run that can be read")
    assert len(done.stderr.splitlines()) == 1
    assert CliRunner().invoke(app, ["compare", "a", "c"]).exit_code == 1
    assert CliRunner().invoke(app, ["show", "a"]).exit_code == 0
    assert CliRunner().invoke(app, ["digest", "a"]).stderr == ""
