"""The picture of docs/reliability.md: 740 steps trained, a crash, and a resume from the checkpoint of step 500."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.doomed import Task
from tests.support.local_log import local_run
from tests.support.resuming import KILL, killed, send
from tests.support.wandb_offline import find_runs
from tests.support.warm import Program
from tests.wandb_server import WandbServer
from trackkit import read_run
from trackkit.integrations.wandb.files import read_history

CHECKPOINT, FLUSHED, CRASH, END = 500, 560, 740, 1000
# Makes the steps of the two attempts differ in time.
VALUE = "batch/step_time_s"


def cut(path: Path, step: int) -> None:
    """Cuts the file as if W&B had flushed only up to `step` and a part of the next record."""
    whole, few, many = path.read_bytes(), 0, path.stat().st_size
    while few < many:
        middle = (few + many) // 2
        path.write_bytes(whole[:middle])
        few, many = (middle + 1, many) if max(batch_steps(path), default=0) < step else (few, middle)
    path.write_bytes(whole[: few + 20])


def batch_steps(path: Path) -> list[int]:
    return list(values(read_history(path)))


def values(rows: Any) -> dict[int, float]:
    """Returns the values by step, and asserts that no step is there twice."""
    found = [(row["batch/step"], row[VALUE]) for row in rows if VALUE in row]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize(("framework", "tool"), [("lightning", "trackkit"), ("huggingface", "wandb")])
def test_every_line_of_the_picture_holds(wandb_server: WandbServer, tmp_path: Path, framework: str, tool: str) -> None:
    last = killed(tmp_path, Task(framework, steps=END, at=CRASH, then=KILL, pause=0.002))
    first_file = find_runs(tmp_path)[0]
    cut(first_file, FLUSHED)
    program = Program(tmp_path, Task(framework, steps=END, resume=last.replace(str(CRASH), str(CHECKPOINT))))
    assert program.wait() == 0, program.stderr

    rows = read_run(tmp_path / "out").history
    first, second = (values(row for row in rows if row["_pass"] == number) for number in (1, 2))
    assert list(first) == list(range(1, CRASH + 1))
    assert list(second) == list(range(CHECKPOINT + 1, END + 1))
    assert dict(read_run(tmp_path / "out").series(VALUE)) == {**first, **second}

    wanted = {**second, **first}
    second_file = find_runs(tmp_path)[1]
    assert batch_steps(first_file) == list(range(1, FLUSHED + 1))
    assert values(read_history(second_file)) == {step: wanted[step] for step in range(FLUSHED + 1, END + 1)}

    send(wandb_server, tmp_path, tool)
    history = wandb_server.state.run(local_run(tmp_path).run["run_id"]).history
    assert values(history) == dict(sorted(wanted.items()))
    places = [row["_step"] for row in history]
    assert places == sorted(set(places))
