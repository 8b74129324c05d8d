"""`trackkit report`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.local_log import write_run
from trackkit.cli.main import app


def test_report_is_written_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path / "index.jsonl"))
    write_run(tmp_path / "out", "a", {"hparams/lr": 0.1}, {"final/val/loss": 1.0})
    write_run(tmp_path / "out", "b", {"hparams/lr": 0.2}, {"final/val/loss": 2.0})
    run = CliRunner().invoke
    done = run(app, ["report", "out", "-o", "page.html", "--where", "hparams/lr < 0.15", "--svg"])
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        ["Wrote 'page.html': 1 run, 1 metric, 1.0 MB.", "Wrote 'page.svg'."],
    ), done.stderr
    for words, code, text in (
        (["nothing"], 1, "error: no run 'nothing'"),
        ([], 1, "error: there are no runs to report."),
        (["out", "--where", "hparams/lr >"], 2, "error: 'hparams/lr >' is no expression"),
        (["out", "--where", "hparams/lr > 1"], 1, "error: none of 2 runs matches 'hparams/lr > 1'"),
        (["out", "--group-by", "lrr"], 2, "error: unknown"),
        (["out", "--axis", "epochs"], 2, "Usage:"),
        (["out", "-o", "no/page.html"], 1, "error: cannot write 'no/page.html'"),
        (["out", "--metric", "acc"], 1, "error: no run has the metric 'acc'"),
    ):
        done = run(app, ["report", *words])
        assert (done.exit_code, done.stderr[: len(text)]) == (code, text), done.stderr
    assert not (tmp_path / "report.html").exists()
