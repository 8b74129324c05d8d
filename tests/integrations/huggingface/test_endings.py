"""Hugging Face: status and exit code of programs that fail, exit, or are interrupted or killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.local_log import local_run
from tests.support.wandb_offline import read_finished
from tests.support.warm import run_script

PROGRAM = """
import os, signal, sys, time
import trackkit
from tests.support.huggingface_toys import Trainer, make_trainer

class Ending(Trainer):
    def training_step(self, *args, **kwargs):
        if self.state.global_step == 3:
            exec(sys.argv[1])
        return super().training_step(*args, **kwargs)

make_trainer("out", [], kind=Ending, report_to="trackkit", logging_steps=2).train()
"""

ENDINGS = {
    "finished": "pass",
    "raised": "raise ValueError('broken data')",
    "exited": "sys.exit(3)",
    "interrupted": "os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs one program per ending; returns the folder of their folders, which also hold `code` and `stderr`."""
    home = tmp_path_factory.mktemp("programs")
    for name, ending in ENDINGS.items():
        folder = home / name
        folder.mkdir()
        done = run_script(PROGRAM, ending, cwd=folder)
        (folder / "code").write_text(str(done.returncode))
        (folder / "stderr").write_text(done.stderr)
    return home


@pytest.mark.parametrize(
    ("ending", "code", "says", "status", "exit_code"),
    [
        ("finished", 0, "", "finished", 0),
        ("raised", 1, "ValueError: broken data", "failed", 1),
        ("exited", 3, "", "failed", 1),
        ("interrupted", -signal.SIGINT, "KeyboardInterrupt", "stopped", 255),
    ],
)
def test_status_and_exit_code_say_how_a_program_ended(
    programs: Path, ending: str, code: int, says: str, status: str, exit_code: int
) -> None:
    """In the local log and in W&B; the program keeps its own exit code and traceback."""
    folder = programs / ending
    errors = (folder / "stderr").read_text()
    assert int((folder / "code").read_text()) == code, errors
    assert says in errors
    assert ("Traceback" in errors) == bool(says), errors
    local, online = local_run(folder), read_finished(folder)
    assert (local.run["status"], local.run["exit_code"]) == (status, exit_code)
    assert (online.summary["final/status"], online.exit_code) == (status, exit_code)
    steps = [1, 2, 4, 6] if status == "finished" else [1, 2, 3]
    assert [step for step, _ in local.history("batch/step")] == steps
    assert [step for step, _ in online.history("batch/step")] == steps
    assert online.summary["final/steps"] == steps[-1]


def test_killed_program_leaves_its_rows_in_the_local_log(programs: Path) -> None:
    """SIGKILL: every row so far is on disk, and the run is still marked `running`."""
    assert int((programs / "killed" / "code").read_text()) == -signal.SIGKILL
    run = local_run(programs / "killed")
    assert [step for step, _ in run.history("batch/loss")] == [1, 2]
    assert run.run["status"] == "running"
