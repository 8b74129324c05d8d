"""`trackkit checkpoints`: a line for each checkpoint, and the totals."""

from __future__ import annotations

import json
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
    title, folder, heading, *lines, reason, _, totals, disk = shown(run.folder)
    assert (title, folder) == ("model-toy, val_loss (min)", f"files in {tmp_path / 'saves'}")
    assert heading.split() == ["step", "epoch", "value", "size", "state", "version", "aliases", "file"]
    assert [line.split() for line in lines] == [
        ["0", "0", "2", "9", "B", "committed", "v0", "was-best", "step=0.ckpt"],
        ["1", "0.1", "1", "9", "B", "committed", "v1", "best", "step=1.ckpt"],
        ["2", "0.2", "3", "9", "B", "committed", "v2", "latest", "step=2.ckpt"],
        ["3", "0.3", "5", "9", "B", "skipped", "step=3.ckpt"],
    ]
    assert reason == "skipped, the framework marks it as incomplete: step 3"
    assert (totals, disk) == ("4 saved; 3 versions in W&B, 27 B.", "On this disk: 36 B of the framework's files.")
    done = CliRunner().invoke(app, ["checkpoints", str(run.folder), "--json"])
    found = json.loads(done.stdout)
    assert [each["state"] for each in found] == ["committed"] * 3 + ["skipped"]
    assert found[1]["aliases"] == ["best", "step-1"]
    assert (found[1]["path"], found[1]["staging"], found[1]["size"]) == (str(run.saves / "step=1.ckpt"), "", 9)


def test_collections_are_apart_and_files_that_are_gone_are_not_shown(tmp_path: Path) -> None:
    run = Saver(tmp_path)
    run.save(1, 2.0, series="a").unlink()
    run.save(2, 1.0, series="b", path=run.write("last.ckpt", b"one"))
    run.save(3, 3.0, series="b", path=run.write("last.ckpt", b"three"))
    run.close()
    lines = shown(run.folder)
    first, second = lines.index("model-toy-a, val_loss (min)"), lines.index("model-toy-b, val_loss (min)")
    assert lines[first + 2].split()[-2:] == ["staging", "1"]
    assert lines[second + 3].split()[-2:] == ["staging", "2"]
    assert lines[second + 4].split()[-2:] == ["latest", "last.ckpt"]
    assert lines[-2:] == [
        "On this disk: 5 B of the framework's files.",
        f"Staging: 12 B more, in {run.folder / 'checkpoints'}",
    ]
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)


def test_run_without_checkpoints(tmp_path: Path) -> None:
    run = Saver(tmp_path)
    run.close()
    assert shown(run.folder) == ["0 saved; 0 versions in W&B, 0 B.", "On this disk: 0 B of the framework's files."]
