"""Trainings that crash, are killed or interrupted: what is recorded, and that TrackKit does not change how they end."""

from __future__ import annotations

import functools
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.doomed import STEPS, Task
from tests.support.local_log import local_run
from tests.support.wandb_offline import read_finished
from tests.support.warm import Program
from tests.wandb_server import WandbServer
from trackkit import read_run

Ended = Callable[[str, str], tuple[Path, Path]]

FRAMEWORKS = ("lightning", "huggingface")
AT = 30
TERM = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
USERS = """
import signal
from tests.support.doomed import note
def users(number, frame): note("handled", number)
signal.signal(signal.SIGTERM, users)
"""
LEFT = 'import signal; from tests.support.doomed import note; note("left", signal.getsignal(signal.SIGTERM))'
AGAIN = """
import os, signal, threading, time
def again():
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.005)
threading.Thread(target=again, daemon=True).start()
time.sleep(0.1)
"""
WITHIN_A_ROW = """
import os, signal
from trackkit.local_log.writer import LocalSink
write = LocalSink.write
def interrupted(self, row):
    if row.step == 30:
        os.kill(os.getpid(), signal.SIGTERM)
    write(self, row)
LocalSink.write = interrupted
"""
CORE = """
import os, signal
from pathlib import Path
for path in Path("/proc").glob("[0-9]*/stat"):
    name, _, rest = path.read_text().partition("(")[2].rpartition(")")
    if name.startswith("wandb-core") and int(rest.split()[1]) == os.getpid():
        os.kill(int(path.parent.name), signal.SIGKILL)
"""
ENDINGS = {
    "killed": Task("", at=AT, then="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    "exited": Task("", at=AT, then="import os; os._exit(7)"),
    "raised": Task("", at=AT, then="raise ValueError('broken data')"),
    "sys.exit": Task("", at=AT, then="import sys; sys.exit(3)"),
    "interrupted": Task("", at=AT, then="import os, signal; os.kill(os.getpid(), signal.SIGINT)"),
    "terminated": Task("", at=AT, then=TERM),
    "terminated with all": Task("", at=AT, then="import os, signal; os.killpg(0, signal.SIGTERM)"),
    "handled": Task("", at=AT, before=USERS, then=TERM, after=LEFT),
    "ignored": Task(
        "", at=AT, before="import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", then=TERM, after=LEFT
    ),
    "unharmed": Task("", after=LEFT),
    "core": Task("", at=AT, then=CORE, after=LEFT),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The folders of two trainings that ended the same way: with TrackKit, and without."""
    home = tmp_path_factory.mktemp("endings")

    @functools.cache
    def end(ending: str, framework: str) -> tuple[Path, Path]:
        task = replace(ENDINGS[ending], framework=framework)
        folder = home / ending / framework
        programs = [Program(folder / "tracked", task), Program(folder / "bare", replace(task, kit=None))]
        for program in programs:
            program.wait()
        return programs[0].home, programs[1].home

    return end


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_exit_code_and_signal_handlers_are_those_without_trackkit(ended: Ended, ending: str, framework: str) -> None:
    tracked, bare = ended(ending, framework)
    assert (tracked / "code").read_text() == (bare / "code").read_text(), (tracked / "err.txt").read_text()
    for name in ("handled", "truth"):
        assert (tracked / name).exists() == (bare / name).exists()
        assert not (bare / name).exists() or (tracked / name).read_text() == (bare / name).read_text()
    if (bare / "left").exists():
        left = [(folder / "left").read_text().partition(" at ")[0] for folder in (tracked, bare)]
        assert left[0] == left[1]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("killed", "failed"),
        ("exited", "failed"),
        ("raised", "failed"),
        ("sys.exit", "failed"),
        ("interrupted", "stopped"),
        ("terminated", "preempted"),
        ("terminated with all", "preempted"),
        ("handled", "finished"),
        ("ignored", "finished"),
        ("core", "finished"),
    ],
)
def test_local_log_has_every_row_and_the_right_status(ended: Ended, ending: str, status: str, framework: str) -> None:
    home, _ = ended(ending, framework)
    if framework == "lightning" and ending in ("handled", "ignored"):
        # Lightning's own handler stops the training, whatever the user's does.
        status = "preempted"
    finished = len((home / "truth").read_text().splitlines())
    assert (finished == STEPS) if status == "finished" else (AT <= finished <= AT + 1)
    run = read_run(home / "out")
    steps = [row["batch/step"] for row in run.history if "batch/step" in row]
    assert steps == list(range(1, finished + 1))
    assert run.run["status"] == status


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("ending", "code"),
    [("raised", 1), ("sys.exit", 1), ("interrupted", 255), ("terminated", 143), ("terminated with all", 143)],
)
def test_wandb_has_everything_if_the_program_ended_its_run(
    ended: Ended, ending: str, code: int, framework: str
) -> None:
    home, _ = ended(ending, framework)
    local, online = local_run(home), read_finished(home / "out")
    assert online.history("batch/loss") == local.history("batch/loss")
    assert online.summary["final/status"] == local.run["status"]
    if ending.startswith("terminated") and framework == "lightning":
        code = 1  # Lightning turns the signal into an exception, and ends the program itself.
    assert (online.exit_code, local.run["exit_code"]) == (code, code)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    "signals",
    [Task("", at=AT, then=AGAIN), Task("", before=WITHIN_A_ROW)],
    ids=["again and again", "while a row is written"],
)
def test_sigterm_interrupts_neither_a_row_nor_the_end_of_the_run(tmp_path: Path, signals: Task, framework: str) -> None:
    program = Program(tmp_path, replace(signals, framework=framework))
    program.wait()
    steps = list(range(1, program.steps + 1))
    assert AT <= len(steps) <= AT + 1
    local, online = local_run(tmp_path), read_finished(tmp_path / "out")
    for rows in (local.rows, online.rows):
        assert [row["batch/step"] for row in rows if "batch/step" in row] == steps
    assert (local.run["status"], online.exit_code) == ("preempted", local.run["exit_code"])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_program_killed_after_sigterm_is_preempted(tmp_path: Path, framework: str) -> None:
    """SIGKILL follows SIGTERM if a program takes too long: here in its own handler."""
    waits = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: time.sleep(60))"
    program = Program(tmp_path, Task(framework, before=waits, at=AT, then=TERM))
    program.wait_for_step(AT)
    run = tmp_path / "out"
    deadline = time.monotonic() + 300
    while not read_run(run).run.get("preempting"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    program.kill()
    program.wait()
    assert (read_run(run).run["status"], len(read_run(run).history)) == ("preempted", AT)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_users_handler_is_called_once(ended: Ended, framework: str) -> None:
    home, _ = ended("handled", framework)
    assert (home / "handled").read_text() == f"{int(signal.SIGTERM)}\n"
    if framework == "huggingface":
        assert "users" in (home / "left").read_text()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_killed_wandb_core_is_logged_and_counted(ended: Ended, framework: str) -> None:
    home, _ = ended("core", framework)
    assert local_run(home).summary["final/tracker_errors"] >= 1
    said = (home / "err.txt").read_text()
    # W&B's thread notices between rows: which call of the training comes next depends on its pace.
    failures = re.findall(r"sink 'WandbSink' \((?:write|config|summary|close)\) failed and is retried", said)
    assert len(failures) == 1, said


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_preempted_run_is_marked_for_requeueing(wandb_server: WandbServer, tmp_path: Path, framework: str) -> None:
    task = Task(framework, {"mode": "online"}, at=AT, then=TERM)
    program = Program(tmp_path / "run", task, {**wandb_server.env(tmp_path), "WANDB_MODE": "online"})
    program.wait()
    run_id = local_run(tmp_path).run["run_id"]
    run = wandb_server.state.run(run_id)
    assert (run.state, run.summary["final/status"]) == ("preempted", "preempted")
    steps = [row["batch/step"] for row in run.history if "batch/step" in row]
    assert steps == list(range(1, program.steps + 1))
