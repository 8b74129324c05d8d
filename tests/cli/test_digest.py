"""`trackkit digest`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.local_log import write_run
from trackkit.cli.main import app


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app(["digest", *words])
    return int(ended.value.code or 0)


def test_markdown_and_json_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, "a")
    assert run(str(tmp_path)) == 0
    assert capsys.readouterr().out.startswith("# name-a (a)\n\nThe run is **finished**")
    assert run(str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["facts"]["status"] == "finished"


def test_missing_run_is_an_error_and_a_damaged_one_is_shown_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(tmp_path / "none")) == 1
    assert "error:" in capsys.readouterr().err
    folder = write_run(tmp_path, "a")
    (folder / "rows.jsonl").write_text("{broken\n")
    assert run(str(tmp_path)) == 0
    assert "No rows were recorded." in capsys.readouterr().out
