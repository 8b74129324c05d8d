"""The console of W&B runs: every line that was printed, once, in order, also of killed and resumed runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.doomed import Task
from tests.support.local_log import local_run
from tests.support.resuming import KILL, killed, online, resume, send
from tests.support.wandb_offline import find_runs
from tests.support.warm import Program
from tests.wandb_server import WandbServer
from trackkit import read_run
from trackkit.engine.records import Line
from trackkit.integrations.wandb.console import lines_there, to_texts
from trackkit.integrations.wandb.files import read_logger_lines, read_run_file

# Prints a line per step, waits until the last is recorded, and dies before W&B has sent any.
SAY = """
import torch
step = torch.optim.SGD.step
def said(self, *args, **kwargs):
    print("line", len(open("truth").readlines()) if __import__("os").path.exists("truth") else 0)
    return step(self, *args, **kwargs)
torch.optim.SGD.step = said
"""
THEN = f"import time; print('last line'); time.sleep(2); {KILL}"


def of_server(server: WandbServer, home: Path) -> list[str]:
    """Returns the run's console without W&B's times."""
    lines = server.state.run(local_run(home).run["run_id"]).console
    return [re.sub(r"^(ERROR )?\S+ (?=\S+Z )", "", line).rstrip() for line in lines]


def recorded(home: Path) -> list[str]:
    """Returns the local log's console, in the order written, as W&B gets it."""
    return [text.rstrip() for text in to_texts(read_run(local_run(home).folder).console)]


def assert_all_there(server: WandbServer, home: Path) -> None:
    """Asserts that the server has every recorded line once; two of one moment may have changed places."""
    there = of_server(server, home)
    assert sorted(there) == sorted(recorded(home))
    said = [line.split(" ", 1)[1] for line in there if re.search(r" (line \d+|last line)$", line)]
    assert said.count("last line") == 1
    before = said[: said.index("last line")]
    assert before == [f"line {number}" for number in range(len(before))]
    assert len(before) > 50


def test_killed_and_resumed_online_run_has_its_console(wandb_server: WandbServer, tmp_path: Path) -> None:
    env = online(wandb_server, tmp_path)
    task = Task("lightning", {"mode": "online"}, before=SAY, at=70, then=THEN)
    checkpoint = killed(tmp_path, task, env)
    resume(tmp_path, "lightning", checkpoint, env)
    assert_all_there(wandb_server, tmp_path)


@pytest.mark.parametrize("tool", ["wandb", "trackkit"])
def test_killed_and_resumed_offline_run_has_its_console(wandb_server: WandbServer, tmp_path: Path, tool: str) -> None:
    """The first attempt's file lacks the lines that W&B had not written yet."""
    checkpoint = killed(tmp_path, Task("huggingface", before=SAY, at=70, then=f"print('last line'); {KILL}"))
    folder = local_run(tmp_path).folder
    with (folder / "console.jsonl").open("a") as file:
        file.write('{"_time":1.5,"stream":"stdout","text":"only in the local log"}\n')
    assert "only in" not in "".join(read_logger_lines(find_runs(tmp_path)[0]))
    resume(tmp_path, "huggingface", checkpoint)
    send(wandb_server, tmp_path, tool)
    there = of_server(wandb_server, tmp_path)
    assert sorted(there) == sorted(recorded(tmp_path))
    assert there.count("1970-01-01T00:00:01Z only in the local log") == 1


def test_sync_sends_the_lines_that_a_killed_online_run_could_not(wandb_server: WandbServer, tmp_path: Path) -> None:
    env = online(wandb_server, tmp_path)
    killed(tmp_path, Task("lightning", {"mode": "online"}, before=SAY, at=70, then=THEN), env)
    for _ in range(2):
        send(wandb_server, tmp_path, "trackkit")
        assert_all_there(wandb_server, tmp_path)


def test_sync_sends_the_console_of_a_run_without_wandb_files(wandb_server: WandbServer, tmp_path: Path) -> None:
    killed(tmp_path, Task("lightning", before=SAY, at=70, then=THEN))
    find_runs(tmp_path)[0].unlink()
    send(wandb_server, tmp_path, "trackkit")
    assert_all_there(wandb_server, tmp_path)


def test_crash_has_its_traceback_on_the_server(wandb_server: WandbServer, tmp_path: Path) -> None:
    task = Task("lightning", {"mode": "online"}, before=SAY, at=70, then="raise ValueError('no luck')")
    assert Program(tmp_path, task, online(wandb_server, tmp_path)).wait() == 1
    assert [line for line in of_server(wandb_server, tmp_path) if line.endswith("ValueError: no luck")]
    run = wandb_server.state.run(local_run(tmp_path).run["run_id"])
    assert run.summary["final/error"].startswith("ValueError: no luck (")


def test_variable_of_wandb_keeps_its_own_capture(tmp_path: Path) -> None:
    """The lines are recorded here too, and are in W&B's file once."""
    program = Program(tmp_path, Task("lightning", before=SAY, steps=5), {"WANDB_CONSOLE": "wrap_raw"})
    assert program.wait() == 0, program.stderr
    file = read_run_file(find_runs(tmp_path)[0])
    assert [text for _, text in file.console if text.startswith("line")] == [f"line {n}" for n in range(5)]
    assert [line for line in recorded(tmp_path) if re.search(r" line \d$", line)]


def test_run_of_the_program_keeps_wandbs_capture(tmp_path: Path) -> None:
    before = SAY + "import wandb; wandb.init(project='own')"
    program = Program(tmp_path, Task("huggingface", before=before, steps=5, after="import wandb; wandb.finish()"))
    assert program.wait() == 0, program.stderr
    file = read_run_file(next(tmp_path.glob("wandb/offline-run-*/*.wandb")))
    assert [text for _, text in file.console if text.startswith("line")] == [f"line {n}" for n in range(5)]


@pytest.mark.parametrize(
    ("count", "last", "there"),
    [
        (0, "", 0),
        (2, "b", 2),
        (2, "b   ", 2),
        # The upload was cut within a line.
        (3, "a lo", 2),
        # W&B's own capture, or another program, has written before.
        (9, "b", 2),
        (9, "unknown", 4),
        (2, "unknown", 2),
    ],
)
def test_lines_of_the_server_are_found_among_ours(count: int, last: str, there: int) -> None:
    texts = ["a", "b", "a long line", "d"]
    assert lines_there(texts, count, last) == there
    assert lines_there(["equal"] * 4, 2, "equal") == 2


def test_times_are_those_of_the_program() -> None:
    lines: Sequence[Line] = [Line(0.9, "stdout", "x"), Line(86400.0, "stderr", "")]
    assert to_texts(lines) == ["1970-01-01T00:00:00Z x", "1970-01-02T00:00:00Z "]
