"""What a training can't go on in: a run that is not there, another project's, one that another process writes."""

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
# A backup of its own output: every file of the run, its lock too, is opened, read and closed.
COPY = "import shutil; shutil.copytree('out', 'backup'); shutil.rmtree('backup')"
# Like the workers of a data loader, and more stubborn: they outlive the program.
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
    """A training of another process that stands at step 74; gives its run's id and its process."""
    program = Program(home, Task(framework, at=74, then=f"{first}\n{HANG}"))
    try:
        wait_until((home / "hangs").exists)
        yield local_run(home).run["run_id"], program.pid
    finally:
        program.kill()
        program.wait()


def assert_refused(framework: str, settings: dict[str, Any], says: str) -> None:
    """Before the first step, and nothing is left behind."""
    truth, runs = Path("truth").read_bytes(), [(run.folder, run.rows, run.run) for run in local_runs(Path.cwd())]
    with pytest.raises(ConfigError) as caught:
        train(framework, settings)
    assert str(caught.value) == says
    assert Path("truth").read_bytes() == truth
    assert [(run.folder, run.rows, run.run) for run in local_runs(Path.cwd())] == runs


@FRAMEWORKS
def test_an_id_that_has_no_folder(isolated: Path, framework: str) -> None:
    Path("truth").touch()
    folder = isolated / "out" / "trackkit-runs"
    assert_refused(
        framework,
        {"resume": "nothere"},
        f"'resume' must name a run that is there; 'nothere' has no folder in '{folder}'; "
        "give the id of one that has, 'auto' or 'never', or set 'dir' to where it is",
    )


@FRAMEWORKS
@pytest.mark.parametrize("setting", ["resume", "WANDB_RUN_ID"])
def test_an_id_of_another_project(framework: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train(framework, steps=2)
    run_id = local_run(Path.cwd()).run["run_id"]
    if setting == "WANDB_RUN_ID":
        monkeypatch.setenv(setting, run_id)
    assert_refused(
        framework,
        {"project": "q", **({"resume": run_id} if setting == "resume" else {})},
        f"'{setting}' must name a run of project 'q'; '{run_id}' is of 'p'; set 'project' to 'p', or name another run",
    )


@FRAMEWORKS
@pytest.mark.parametrize("setting", ["resume", "WANDB_RUN_ID"])
def test_an_id_that_another_process_writes(
    isolated: Path, framework: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with alive(isolated, framework) as (run_id, pid):
        if setting == "WANDB_RUN_ID":
            monkeypatch.setenv(setting, run_id)
        assert_refused(
            framework,
            {"resume": run_id} if setting == "resume" else {},
            f"'{setting}' must name a run that no other process writes; '{run_id}' is open in process {pid}; "
            "end that one first, or name another run",
        )
    # A moment later it is free.
    train(framework, {"resume": run_id}, steps=2)
    run = local_run(isolated)
    assert (run.run["passes"], steps(run, 2)) == (2, [1, 2])


@FRAMEWORKS
@pytest.mark.parametrize("first", ["", COPY], ids=["", "and reads its own output"])
def test_a_checkpoint_s_run_that_another_process_writes(
    isolated: Path, framework: str, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    with alive(isolated, framework, first) as (run_id, _):
        before = len(local_run(isolated).rows)
        train(framework, resume=last_checkpoint(isolated))
        assert f"the checkpoint's run {run_id} is still open in another process: this is a new run" in caplog.messages
        old, new = local_runs(isolated)
        assert (old.run["run_id"], len(old.rows), old.run["status"]) == (run_id, before, "running")
        assert steps(new, 1) == list(range(CHECKPOINT + 1, STEPS + 1))


@FRAMEWORKS
def test_a_run_whose_process_was_killed_is_free_though_its_children_live(isolated: Path, framework: str) -> None:
    program = Program(isolated, Task(framework, at=74, then=f"{FORK}\nos.kill(os.getpid(), 9)"))
    assert program.wait() == -signal.SIGKILL
    try:
        train(framework, resume=last_checkpoint(isolated))
        assert local_run(isolated).run["passes"] == 2
    finally:
        os.kill(int((isolated / "forked").read_text()), signal.SIGKILL)


@FRAMEWORKS
def test_a_checkpoint_s_run_of_another_project(
    isolated: Path, framework: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = break_off(framework)
    train(framework, {"project": "q"}, resume=checkpoint)
    old, new = local_runs(isolated)
    assert f"the checkpoint's run {old.run['run_id']} is of project 'p': this is a new run" in caplog.messages
    assert "passes" not in old.run
    assert steps(new, 1) == list(range(CHECKPOINT + 1, STEPS + 1))
