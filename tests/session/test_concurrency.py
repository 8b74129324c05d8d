"""Several trainings of one process, in turn, nested and in threads: each has its own run and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb

import trackkit
from tests.support.local_log import LocalRun, local_runs
from tests.support.searching import INNER, OUTER, Both, Searching
from tests.support.toy import TRAININGS
from tests.support.wandb_offline import OfflineRun, find_runs, read_finished
from trackkit import TrackKit

FRAMEWORKS = sorted(TRAININGS)
# More threads would only wait for each other.
torch.set_num_threads(1)

STEPS = {48: list(range(1, 49)), 24: [1, *range(2, 25, 2)]}


def online_side(folder: Path) -> dict[str, OfflineRun]:
    """Returns W&B's runs below a folder, by id."""
    found = [read_finished(path) for path in find_runs(folder)]
    assert len({run.run_id for run in found}) == len(found)
    return {run.run_id: run for run in found}


def assert_whole(run: LocalRun, other: OfflineRun, steps: int, name: str) -> None:
    """Asserts that the local log and W&B have every step of this training, in order, and none of another."""
    assert (run.run["name"], other.name, run.run["status"], other.exit_code) == (name, name, "finished", 0)
    for history in (run.history("batch/loss"), other.history("batch/loss")):
        assert [step for step, _ in history] == STEPS[steps]
    lr = {48: OUTER.lr, 24: INNER.lr}[steps]
    assert run.history("batch/lr")[0] == other.history("batch/lr")[0] == (1, pytest.approx(lr))
    assert run.summary["final/steps"] == other.summary["final/steps"] == steps
    assert run.summary["final/tracker_errors"] == 0


@pytest.mark.parametrize("inner", FRAMEWORKS)
@pytest.mark.parametrize("outer", FRAMEWORKS)
def test_nested_training_has_its_own_run(tmp_path: Path, outer: str, inner: str) -> None:
    kit = TrackKit(name="outer", dir=str(tmp_path))
    TRAININGS[outer](OUTER, tmp_path, [Searching(inner, tmp_path, 2), kit])
    assert wandb.run is not None
    outer_id = wandb.run.id
    trackkit.finish()
    runs, others = local_runs(tmp_path), online_side(tmp_path)
    assert Counter(run.run["name"] for run in runs) == {"outer": 1, "inner-0": 1, "inner-1": 1}
    assert others.keys() == {run.run["run_id"] for run in runs}
    for run in runs:
        name = run.run["name"]
        assert_whole(run, others[run.run["run_id"]], 48 if name == "outer" else 24, name)
        assert (run.run["run_id"] == outer_id) == (name == "outer")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_fold_of_a_loop_is_one_run(tmp_path: Path, framework: str) -> None:
    for fold in range(3):
        TRAININGS[framework](INNER, tmp_path, [TrackKit(name=f"fold-{fold}", dir=str(tmp_path))])
    trackkit.finish()
    runs, others = local_runs(tmp_path), online_side(tmp_path)
    assert len(runs) == len(others) == 3
    for fold, run in enumerate(runs):
        assert_whole(run, others[run.run["run_id"]], 24, f"fold-{fold}")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_in_another_thread_leaves_signals_alone(tmp_path: Path, framework: str) -> None:
    """A sweep's agent trains in such a thread."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    errors: list[BaseException] = []
    during: list[Any] = []

    class Look(Both):
        def on_train_start(self, *_: Any) -> None:
            during.append({number: signal.getsignal(number) for number in handlers})

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            during.append({number: signal.getsignal(number) for number in handlers})

    def work() -> None:
        try:
            TRAININGS[framework](INNER, tmp_path, [TrackKit(name="swept", dir=str(tmp_path)), Look()])
        except BaseException as error:  # noqa: BLE001 -- the test asserts that there is none
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(300)
    assert not thread.is_alive()
    assert errors == []
    trackkit.finish()
    assert during
    assert all(each == handlers for each in during)
    (run,) = local_runs(tmp_path)
    assert_whole(run, online_side(tmp_path)[run.run["run_id"]], 24, "swept")


def test_two_threads_train_at_once_each_in_its_run(tmp_path: Path) -> None:
    threads = [
        threading.Thread(
            target=TRAININGS["lightning"], args=(INNER, tmp_path, [TrackKit(name=f"thread-{n}", dir=str(tmp_path))])
        )
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()
    trackkit.finish()
    runs, others = local_runs(tmp_path), online_side(tmp_path)
    assert sorted(run.run["name"] for run in runs) == ["thread-0", "thread-1"]
    for run in runs:
        assert_whole(run, others[run.run["run_id"]], 24, run.run["name"])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_ten_fits_leave_no_thread_and_no_open_file(tmp_path: Path, framework: str) -> None:
    """Counts from the second fit on: W&B keeps its service for the whole process."""
    earlier = set(threading.enumerate())
    for number in range(10):
        if number == 2:
            before = left_behind()
        TRAININGS[framework](INNER, tmp_path, [TrackKit(dir=str(tmp_path))])
        trackkit.finish()
    deadline = time.monotonic() + 5
    while (after := left_behind()) > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert after[0] <= before[0], [thread.name for thread in threading.enumerate()]
    assert after[1] <= before[1], [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]]
    left = [thread.name for thread in threading.enumerate() if thread not in earlier]
    assert not [name for name in left if name.startswith("trackkit")]


def left_behind() -> tuple[int, int]:
    """Returns the threads and open files of this process."""
    gc.collect()
    time.sleep(0.3)
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_program_that_finishes_the_wandb_run_itself_loses_nothing(tmp_path: Path, framework: str) -> None:
    """W&B's agent does so after every training of a sweep."""
    TRAININGS[framework](INNER, tmp_path, [TrackKit(name="ended", dir=str(tmp_path))])
    wandb.finish()
    trackkit.finish()
    (run,) = local_runs(tmp_path)
    assert_whole(run, online_side(tmp_path)[run.run["run_id"]], 24, "ended")
