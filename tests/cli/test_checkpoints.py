"""`trackkit checkpoints`: a line for each checkpoint, and the totals."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from tests.support.memory_uploads import MemoryUploads
from tests.support.saving import Saver
from trackkit.cli.main import app
from trackkit.engine.sink import Sink


class Server(Sink):
    def __init__(self) -> None:
        self.uploads = MemoryUploads()


def shown(run: Path) -> list[str]:
    done = CliRunner().invoke(app, ["checkpoints", str(run)])
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_table_shows_where_each_checkpoint_is(tmp_path: Path) -> None:
    run = Saver(tmp_path, sinks=[Server()], keep=1)
    for step, value in enumerate([2.0, 1.0, 3.0]):
        run.save(step, value)
        run.wait_for("committed", "deleted")
    run.save(3, 5.0, complete=False)
    run.close()
    heading, *lines, totals = shown(run.folder)
    assert heading.split() == ["step", "epoch", "value", "size", "kept", "state", "version", "aliases", "reason"]
    assert lines[1].split()[:7] == ["1", "0.1", "1", "9", "B", "framework", "committed"]
    assert "best, step-1" in lines[1]
    assert "latest, step-2" in lines[2]
    assert "skipped" in lines[3]
    assert "the framework marks it as incomplete" in lines[3]
    assert totals == "4 saved, 3 versions in W&B (27 B); staging here: 0 B that nothing else has."


def test_run_without_checkpoints(tmp_path: Path) -> None:
    run = Saver(tmp_path)
    run.close()
    assert shown(run.folder) == ["0 saved, 0 versions in W&B (0 B); staging here: 0 B that nothing else has."]
