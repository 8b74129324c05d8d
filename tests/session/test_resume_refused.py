"""Runs that a training cannot resume: missing, of another project, written by another process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.doomed import STEPS, Task
from tests.support.local_log import local_run, local_runs
from tests.support.resuming import CHECKPOINT, FRAMEWORKS, break_off, steps, train, wait_until
from tests.support.warm import Program, last_checkpoint
from trackkit import ConfigError

HANG = "open('hangs', 'w').close(); import time; time.sleep(600)"
# Copies its own output: opens, reads and closes every file of the run, the lock too.
COPY = "import shutil; shutil.copytree('out', 'backup'); shutil.rmtree('backup')"
# A forked child that outlives the program, as a data loader's worker may.
FORK = """
import os, time
if not (pid := os.fork()):
    import signal
    signal.alarm(60)
    while True:
        time.sleep(1)
open("forked", "w").write(str(pid))
"""


@contextmanager
def alive(home: Path, framework: str, first: str = "") -> Iterator[tuple[str, int]]:
    """Keeps a training of another process at step 74; yields its run id and its process id."""
    program = Program(home, Task(framework, at=74, then=f"{first}\n{HANG}"))
    try:
        wait_until((home / "hangs").exists)
        yield local_run(home).run["run_id"], program.pid
    finally:
        program.kill()
        program.wait()


def assert_refused(framework: str, settings: dict[str, Any], says: str) -> None:
    """Asserts a ConfigError before the first step, and that no run was made or changed."""
    truth, runs = Path("truth").read_bytes(), [(run.folder, run.rows, run.run) for run in local_runs(Path.cwd())]
    with pytest.raises(ConfigError) as caught:
        train(framework, settings)
    assert str(caught.value) == says
    assert Path("truth").read_bytes() == truth
    assert [(run.folder, run.rows, run.run) for run in local_runs(Path.cwd())] == runs


@FRAMEWORKS
def test_unknown_id_is_refused(isolated: Path, framework: str) -> None:
    Path("truth").touch()
    folder = isolated / "out" / "_trackkit"
    assert_refused(
        framework,
        {"resume": "nothere"},
        f"resume='nothere': no such run in '{folder}'. "
        "Use the id of a run in it, 'auto' or 'never', or set 'dir' to the folder that the run is in.",
    )


@FRAMEWORKS
@pytest.mark.parametrize("setting", ["resume", "WANDB_RUN_ID"])
def test_id_of_another_project_is_refused(framework: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train(framework, steps=2)
    run_id = local_run(Path.cwd()).run["run_id"]
    if setting == "WANDB_RUN_ID":
        monkeypatch.setenv(setting, run_id)
    assert_refused(
        framework,
        {"project": "q", **({"resume": run_id} if setting == "resume" else {})},
        f"{setting}='{run_id}': that run belongs to project 'p', not 'q'. Set project='p', or name another run.",
    )


@FRAMEWORKS
@pytest.mark.parametrize("setting", ["resume", "WANDB_RUN_ID"])
def test_id_of_a_run_open_in_another_process_is_refused(
    isolated: Path, framework: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with alive(isolated, framework) as (run_id, pid):
        if setting == "WANDB_RUN_ID":
            monkeypatch.setenv(setting, run_id)
        assert_refused(
            framework,
            {"resume": run_id} if setting == "resume" else {},
            f"{setting}='{run_id}': that run is open in process {pid}. End that process first, or name another run.",
        )
    # The process has ended.
    train(framework, {"resume": run_id}, steps=2)
    run = local_run(isolated)
    assert (run.run["passes"], steps(run, 2)) == (2, [1, 2])


@FRAMEWORKS
@pytest.mark.parametrize("first", ["", COPY], ids=["", "and reads its own output"])
def test_checkpoint_of_a_run_open_in_another_process_starts_a_new_run(
    isolated: Path, framework: str, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    with alive(isolated, framework, first) as (run_id, _):
        before = len(local_run(isolated).rows)
        train(framework, resume=last_checkpoint(isolated))
        assert f"the checkpoint's run {run_id} is open in another process: recording a new run" in caplog.messages
        old, new = local_runs(isolated)
        assert (old.run["run_id"], len(old.rows), old.run["status"]) == (run_id, before, "running")
        assert steps(new, 1) == list(range(CHECKPOINT + 1, STEPS + 1))


@FRAMEWORKS
def test_run_of_a_killed_process_is_resumed_while_its_children_live(isolated: Path, framework: str) -> None:
    program = Program(isolated, Task(framework, at=74, then=f"{FORK}\nos.kill(os.getpid(), 9)"))
    assert program.wait() == -signal.SIGKILL
    try:
        train(framework, resume=last_checkpoint(isolated))
        assert local_run(isolated).run["passes"] == 2
    finally:
        os.kill(int((isolated / "forked").read_text()), signal.SIGKILL)


@FRAMEWORKS
def test_checkpoint_of_another_project_starts_a_new_run(
    isolated: Path, framework: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = break_off(framework)
    train(framework, {"project": "q"}, resume=checkpoint)
    old, new = local_runs(isolated)
    notice = f"the checkpoint's run {old.run['run_id']} belongs to project 'p', not 'q': recording a new run"
    assert notice in caplog.messages
    assert "passes" not in old.run
    assert steps(new, 1) == list(range(CHECKPOINT + 1, STEPS + 1))
