"""A training resumed from a checkpoint resumes the checkpoint's run: which run, and in which folder."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.support.doomed import STEPS, TRAIN, Task
from tests.support.local_log import local_run, local_runs
from tests.support.resuming import CHECKPOINT, FRAMEWORKS, break_off, steps, train
from tests.support.warm import Program, last_checkpoint
from trackkit import TrackKit

POISONED = """
import os, signal
batches = []
def forward(*_):
    batches.append(0)
    if len(batches) == 24:
        os.kill(os.getpid(), signal.SIGKILL)
for each in net.parameters():
    each.data.fill_(float("nan"))
next(each for each in net.modules() if hasattr(each, "layers")).register_forward_hook(forward)
"""


@FRAMEWORKS
def test_killed_training_resumes_its_run_and_its_columns_cover_both_attempts(tmp_path: Path, framework: str) -> None:
    program = Program(tmp_path, Task(framework, at=50, then=POISONED))
    assert program.wait() == -signal.SIGKILL, program.stderr
    first = local_run(tmp_path)
    again = Program(tmp_path, Task(framework, resume=last_checkpoint(tmp_path)))
    assert again.wait() == 0, again.stderr
    run = local_run(tmp_path)
    for name in ("run_id", "name", "started"):
        assert run.run[name] == first.run[name]
    assert (run.run["status"], run.run["passes"]) == ("finished", 2)
    assert steps(run, 1) == steps(first, 1)
    assert steps(run, 2) == list(range(CHECKPOINT + 1, STEPS + 1))
    assert [row["_row"] for row in run.rows] == list(range(len(run.rows)))
    best = dict(first.history("epoch/val/loss"))[40]
    columns = ("val/loss", "best/val/loss", "best/val/loss_step", "steps", "samples")
    assert [run.summary[f"final/{name}"] for name in columns] == [best, best, 40, STEPS, 4 * STEPS]
    # NaN from step 51 on (Hugging Face: 52, since the forward pass is earlier); a repeated step counts once.
    assert run.summary["final/nonfinite"] == STEPS - 50 - (framework == "huggingface")
    own_s = run.rows[-1]["_time"] - next(row["_time"] for row in run.rows if row.get("_pass") == 2)
    earlier_s = first.rows[-1]["_time"] - first.rows[0]["_time"]
    assert run.summary["final/duration_h"] * 3600 >= own_s + earlier_s


@FRAMEWORKS
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "left open"])
def test_fit_of_the_same_process_resumes_the_run(isolated: Path, framework: str, ended: bool) -> None:
    if ended:
        checkpoint = break_off(framework)
    else:
        # As in a notebook: the run that raised the exception is still open.
        broken = Task(framework, at=74, then="raise ValueError('broken')")
        with pytest.raises(ValueError, match="broken"):
            TRAIN[framework](broken, [TrackKit(project="p", sinks=[])])
        checkpoint = last_checkpoint(isolated)
    train(framework, resume=checkpoint)
    run = local_run(isolated)
    assert (run.run["status"], run.run["passes"], run.run["exit_code"]) == ("finished", 2, 0)
    assert (steps(run, 1), steps(run, 2)) == (list(range(1, 75)), list(range(CHECKPOINT + 1, STEPS + 1)))


@FRAMEWORKS
def test_third_attempt_follows_the_second(isolated: Path, framework: str) -> None:
    checkpoint = break_off(framework)
    with pytest.raises(ValueError, match="again"):
        train(framework, resume=checkpoint, at=70, then="raise ValueError('again')")
    train(framework, resume=checkpoint)
    run = local_run(isolated)
    assert run.run["passes"] == 3
    assert [steps(run, number)[-1] for number in (1, 2, 3)] == [74, 70, STEPS]
    assert steps(run, 3)[0] == CHECKPOINT + 1


@FRAMEWORKS
def test_checkpoint_without_a_run_starts_a_new_one(isolated: Path, framework: str) -> None:
    TRAIN[framework](Task(framework), [])
    train(framework, resume=str(last_checkpoint(isolated)).replace("-80", "-60"))
    assert steps(local_run(isolated), 1) == list(range(CHECKPOINT + 1, STEPS + 1))


@FRAMEWORKS
def test_training_with_another_output_folder_resumes_in_the_old_one(isolated: Path, framework: str) -> None:
    checkpoint = Path(break_off(framework))
    copy = isolated / "copied" / checkpoint.name
    copy.parent.mkdir()
    (shutil.copytree if checkpoint.is_dir() else shutil.copy)(checkpoint, copy)
    train(framework, resume=str(copy), out="new")
    run = local_run(isolated)
    assert run.folder.parent == isolated / "out" / "_trackkit"
    assert run.run["passes"] == 2


@FRAMEWORKS
def test_run_whose_folder_was_deleted_is_resumed_in_a_new_folder(isolated: Path, framework: str) -> None:
    checkpoint = Path(break_off(framework))
    run_id = local_run(isolated).run["run_id"]
    checkpoint = checkpoint.rename(isolated / checkpoint.name)
    shutil.rmtree(isolated / "out")
    train(framework, resume=str(checkpoint), out="new")
    run = local_run(isolated)
    assert run.folder == isolated / "new" / "_trackkit" / run_id
    assert steps(run, 1) == list(range(CHECKPOINT + 1, STEPS + 1))


@FRAMEWORKS
def test_resume_never_starts_a_new_run(isolated: Path, framework: str) -> None:
    train(framework, {"resume": "never"}, resume=break_off(framework))
    old, new = local_runs(isolated)
    assert (old.run["status"], "passes" in old.run) == ("failed", False)
    assert steps(new, 1) == list(range(CHECKPOINT + 1, STEPS + 1))


@FRAMEWORKS
def test_resume_with_an_id_resumes_that_run(isolated: Path, framework: str) -> None:
    train(framework, steps=20)
    run_id = local_run(isolated).run["run_id"]
    train(framework, {"resume": run_id})
    run = local_run(isolated)
    assert (steps(run, 1), steps(run, 2)) == (list(range(1, 21)), list(range(1, STEPS + 1)))
