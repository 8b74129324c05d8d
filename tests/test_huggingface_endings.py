"""Hugging Face: programs that end as they should not, as a user would see them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.local_log import local_run
from tests.support.processes import clean_env, run_python
from tests.support.wandb_offline import read_offline

PROGRAM = """
import sys, time
from pathlib import Path
import trackkit
from transformers import Trainer
from tests.support.huggingface_toys import make_trainer

class Ending(Trainer):
    def training_step(self, *args, **kwargs):
        if self.state.global_step == 3:
            {ending}
        return super().training_step(*args, **kwargs)

make_trainer("out", [], kind=Ending, report_to="trackkit", logging_steps=2).train()
"""


@pytest.mark.parametrize(
    ("ending", "code", "status", "exit_code"),
    [
        ("raise ValueError('broken data')", 1, "failed", 1),
        ("sys.exit(3)", 3, "failed", 1),
        ("pass", 0, "finished", 0),
    ],
)
def test_status_and_exit_code_of_a_program(tmp_path: Path, ending: str, code: int, status: str, exit_code: int) -> None:
    """In the local log and in W&B's run; the program's own exit code and traceback are untouched."""
    done = run_python(PROGRAM.format(ending=ending), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert ("ValueError: broken data" in done.stderr) == (code == 1)
    local, online = local_run(tmp_path), read_offline(tmp_path)
    assert (local.run["status"], local.run["exit_code"]) == (status, exit_code)
    assert (online.summary["final/status"], online.exit_code) == (status, exit_code)
    steps = [1, 2, 4, 6] if status == "finished" else [1, 2, 3]
    assert [step for step, _ in local.history("batch/step")] == steps
    assert [step for step, _ in online.history("batch/step")] == steps
    assert online.summary["final/steps"] == steps[-1]


def test_ctrl_c_is_stopped_by_the_user(tmp_path: Path) -> None:
    """SIGINT in the middle of a step: everything written, status `stopped`, W&B's own exit code for Ctrl-C."""
    code = PROGRAM.format(ending="Path('marker').touch(); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean_env(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "marker").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors
    assert process.returncode != 0
    local, online = local_run(tmp_path), read_offline(tmp_path)
    assert (local.run["status"], local.run["exit_code"]) == ("stopped", 255)
    assert (online.summary["final/status"], online.exit_code) == ("stopped", 255)
    assert [step for step, _ in online.history("batch/step")] == [1, 2, 3]


def test_a_killed_program_leaves_its_rows_in_the_local_log(tmp_path: Path) -> None:
    """SIGKILL: every row so far is on disk, and nothing says that the run had finished."""
    done = run_python(PROGRAM.format(ending="import os; os.kill(os.getpid(), 9)"), cwd=tmp_path)
    assert done.returncode == -9
    run = local_run(tmp_path)
    assert [step for step, _ in run.history("batch/loss")] == [1, 2]
    assert run.run["status"] == "running"
