"""W&B's transaction logs are read whole, cut short, damaged and growing, and written byte for byte."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tests.support.wandb_offline import find_runs
from tests.support.warm import run_script
from trackkit.integrations.wandb.blocks import BLOCK, Reader, Writer
from trackkit.integrations.wandb.files import last_steps, read_history, read_run_file

CODE = """
import wandb
run = wandb.init(project="p", id="r1", config={"lr": 0.1}, tags=["t"], settings=wandb.Settings(x_disable_stats=True))
for step in range(600):
    values = {"batch/step": step * 2, "batch/loss": 1 / (step + 1), "text": "x" * 40}
    run.log({**values, **({"epoch/step": step, "bad": float("nan")} if step % 100 == 0 else {})}, step=step)
print("a line")
run.finish(exit_code=3)
"""


CHUNKS = """
import sys, time, wandb
run = wandb.init(project="p", id="r1", settings=wandb.Settings(x_disable_stats=True))
for text in ("one\\ntwo\\nthr", "ee\\nfour", "\\nfive\\nsix\\n", "seven"):
    sys.stdout.write(text)
    print(text[0], file=sys.stderr)
    time.sleep(0.3)
run.finish()
"""


def test_console_is_read_as_lines(tmp_path: Path) -> None:
    """Output is recorded in pieces of several lines, and of parts of lines, of two streams."""
    done = run_script(CHUNKS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    console = read_run_file(find_runs(tmp_path)[0]).console
    lines = [[text for stream, text in console if stream == wanted] for wanted in (1, 0)]
    assert lines == [["one", "two", "three", "four", "five", "six", "seven"], ["o", "e", "", "", "s"]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    done = run_script(CODE, cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = find_runs(folder)
    return path


def test_whole_file_is_read(recorded: Path) -> None:
    run = read_run_file(recorded)
    assert (run.run.run_id, run.run.project, list(run.run.tags), run.exit_code) == ("r1", "p", ["t"], 3)
    assert (run.whole, run.console, run.config["lr"]) == (True, [(1, "a line")], 0.1)
    assert [row.step for row in run.rows] == list(range(600))
    assert [row.values["batch/loss"] for row in run.rows] == [1 / (step + 1) for step in range(600)]
    assert run.rows[0].values["bad"] != run.rows[0].values["bad"]
    assert last_steps(recorded) == {"_step": 599, "batch/step": 1198, "epoch/step": 500}
    assert recorded.stat().st_size > 3 * BLOCK


def test_copy_is_the_same_byte_for_byte(recorded: Path, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "copy.wandb")
    for record in Reader(recorded).new():
        writer.add(record)
    writer.close()
    assert (tmp_path / "copy.wandb").read_bytes() == recorded.read_bytes()


def test_records_of_every_length_are_read_back(tmp_path: Path) -> None:
    generator = random.Random(0)
    lengths = [0, 1, 7, 100, BLOCK - 14, BLOCK - 7, BLOCK - 8, BLOCK - 6, BLOCK, 3 * BLOCK]
    records = [generator.randbytes(generator.choice(lengths)) for _ in range(300)]
    writer = Writer(tmp_path / "some.wandb")
    for record in records:
        writer.add(record)
    writer.close()
    assert list(Reader(tmp_path / "some.wandb").new()) == records


def test_file_cut_anywhere_gives_its_whole_records(recorded: Path, tmp_path: Path) -> None:
    data, path = recorded.read_bytes(), tmp_path / "cut.wandb"
    generator = random.Random(1)
    before = -1
    for size in sorted([0, 1, 6, 7, 8, 20, BLOCK - 1, BLOCK, BLOCK + 1, *generator.sample(range(len(data)), 30)]):
        path.write_bytes(data[:size])
        rows = [row["_step"] for row in read_history(path)]
        assert rows == list(range(len(rows)))
        assert len(rows) >= before
        assert read_run_file(path).exit_code is None
        before = len(rows)
    assert before > 300


def test_damaged_block_costs_only_itself(recorded: Path, tmp_path: Path) -> None:
    data, path = bytearray(recorded.read_bytes()), tmp_path / "damaged.wandb"
    data[BLOCK + 5000] ^= 255
    path.write_bytes(data)
    run = read_run_file(path)
    assert not run.whole
    assert run.exit_code == 3
    steps = [row.step for row in run.rows]
    gaps = [later - sooner for sooner, later in itertools.pairwise(steps) if later != sooner + 1]
    assert (len(gaps), steps[-1]) == (1, 599)
    path.write_bytes(b"no such file at all" * 10)
    assert (list(read_history(path)), read_run_file(path).whole) == ([], False)


def test_growing_file_is_followed(recorded: Path, tmp_path: Path) -> None:
    data, path = recorded.read_bytes(), tmp_path / "growing.wandb"
    path.touch()
    reader, found = Reader(path), []
    generator, at = random.Random(2), 0
    while at < len(data):
        at += generator.choice([1, 3, 500, 5000, 40_000])
        path.write_bytes(data[:at])
        found += list(reader.new(final=False))
    assert found == list(Reader(recorded).new())
    assert (reader.rest, reader.damaged) == (0, False)
