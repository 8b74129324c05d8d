"""`trackkit journal`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.local_log import write_run
from trackkit.cli.main import app


def test_journal_of_a_repository_is_kept_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "out", "a", {"trackkit/settings/group": "g"})
    done = CliRunner().invoke(app, ["journal", "add", "out", "It worked."])
    assert (done.exit_code, done.stdout) == (0, f"Added to '{tmp_path / 'JOURNAL.md'}'.\n")
    done = CliRunner().invoke(app, ["journal", "stubs", "out"])
    assert (done.exit_code, done.stdout) == (0, f"Added to '{tmp_path / 'JOURNAL.md'}': g.\n")
    text = (tmp_path / "JOURNAL.md").read_text()
    assert text.index("It worked.") < text.index("## Group g (1 run)")
    done = CliRunner().invoke(app, ["journal", "add", "nothing", "text"])
    assert (done.exit_code, done.stderr.startswith("error: no run 'nothing'")) == (1, True)
