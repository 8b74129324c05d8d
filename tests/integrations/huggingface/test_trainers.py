"""Hugging Face: with several trainers and several TrackKits, every number is in its trainer's run, once."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer

import trackkit
from tests.support.huggingface_toys import arguments, logged, make_trainer
from tests.support.local_log import LocalRun, local_run, local_runs
from tests.support.toy import Net, Points
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink
from trackkit.session.resume import read_earlier

VAL = Points(5, 12)


def _evaluations(run: LocalRun) -> list[float]:
    """Returns the validation losses in the order written, of all attempts."""
    return [row["epoch/val/loss"] for row in run.rows if "epoch/val/loss" in row]


def _notices(messages: list[str]) -> int:
    return sum("several TrackKits" in message for message in messages)


@pytest.mark.parametrize("reported", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_folds_that_share_arguments_have_a_run_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reported: bool, at_once: bool
) -> None:
    """K-fold with one `TrainingArguments`; the trainers are made at once, or one after the other."""
    args = arguments(tmp_path, report_to="trackkit" if reported else "none")

    def make(fold: int) -> Trainer:
        callbacks: Any = None if reported else [TrackKit()]
        return Trainer(Net(), args, train_dataset=Points(fold), eval_dataset=VAL, callbacks=callbacks)

    folds = [make(fold) for fold in range(3)] if at_once else []
    for fold in range(3):
        if not at_once:
            folds.append(make(fold))
        folds[fold].train()
    for trainer in folds:
        trainer.evaluate()
    trackkit.finish()
    runs = local_runs(tmp_path)
    assert sorted(map(_evaluations, runs)) == sorted([logged(trainer, "eval_loss")[0][1]] for trainer in folds)
    assert len({logged(trainer, "eval_loss")[0][1] for trainer in folds}) == 3
    losses = [[value for _, value in run.history("batch/loss")] for run in runs]
    assert sorted(losses) == sorted([value for _, value in logged(trainer, "loss")] for trainer in folds)
    assert _notices(caplog.messages) == 0


def test_one_trackkit_in_two_trainers_keeps_their_numbers_apart(tmp_path: Path) -> None:
    """Also if the first is evaluated again after the second's training has closed its run."""
    kit = TrackKit(name="shared")
    a = make_trainer(tmp_path / "a", [kit], val=VAL)
    b = make_trainer(tmp_path / "b", [kit], val=Points(6, 8), samples=16)
    a.train()
    a.evaluate()
    b.train()
    a.model.layers[0].weight.data.zero_()  # type: ignore[union-attr, operator, index]
    a.evaluate()
    b.evaluate()
    trackkit.finish()
    for name, trainer in (("a", a), ("b", b)):
        run = local_run(tmp_path / name)
        assert _evaluations(run) == [value for _, value in logged(trainer, "eval_loss")]
        assert run.history("batch/loss") == logged(trainer, "loss")
        assert run.run["status"] == "finished"
    assert len(set(_evaluations(local_run(tmp_path / "a")))) == 2


def test_evaluations_before_a_fit_are_in_its_run(tmp_path: Path) -> None:
    """`a.evaluate(); b.evaluate(); a.train(); b.train()`: each baseline is in its own trainer's run."""
    trainers = {name: make_trainer(tmp_path / name, [TrackKit()], val=Points(5 + index, 12), eval_strategy="epoch")
                for index, name in enumerate("ab")}  # fmt: skip
    for trainer in trainers.values():
        trainer.evaluate()
    baselines = {name: logged(trainer, "eval_loss")[0][1] for name, trainer in trainers.items()}
    run_id = local_run(tmp_path / "a").run["run_id"]
    assert read_earlier(tmp_path / "a", run_id).elapsed_h == 0.0, "an evaluation does not count as training time"
    for trainer in trainers.values():
        trainer.train()
    trackkit.finish()
    for name, trainer in trainers.items():
        run = local_run(tmp_path / name)
        assert run.history("epoch/val/loss") == [(0, baselines[name]), *logged(trainer, "eval_loss")]
        assert [step for step, _ in run.history("batch/loss")] == [1, 2, 4, 6]
        assert (run.summary["final/status"], run.summary["final/samples"]) == ("finished", 24)


def test_callback_added_after_pop_callback_records(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`pop_callback`, then `add_callback` with other settings."""
    trainer = make_trainer(tmp_path, [], val=VAL, report_to="trackkit")
    trainer.pop_callback(TrackKit)  # type: ignore[arg-type]
    trainer.add_callback(TrackKit(name="mine", sinks=[sink := MemorySink()]))  # type: ignore[arg-type]
    trainer.train()
    trainer.evaluate()
    trackkit.finish()
    assert sink.history("batch/loss") == logged(trainer, "loss")
    assert sink.history("epoch/val/loss") == logged(trainer, "eval_loss")
    assert local_run(tmp_path).run["name"] == "mine"
    assert _notices(caplog.messages) == 0


def test_added_trackkit_records_instead_of_the_reported_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One notice, also if an evaluation comes first; the other TrackKit leaves no run."""
    trainer = make_trainer(tmp_path, [], val=VAL, report_to="trackkit")
    trainer.add_callback(TrackKit(name="mine", sinks=[sink := MemorySink()]))  # type: ignore[arg-type]
    trainer.evaluate()
    trainer.train()
    assert [step for step, _ in sink.history("epoch/val/loss")] == [0]
    assert sink.history("batch/loss") == logged(trainer, "loss")
    assert local_run(tmp_path).run["name"] == "mine"
    assert _notices(caplog.messages) == 1


def test_trackkit_behind_another_callback_records(tmp_path: Path) -> None:
    """A user's callback passes its events on to a TrackKit that the trainer does not know."""
    from transformers import TrainerCallback

    class Behind(TrainerCallback):
        def __init__(self, kit: TrackKit) -> None:
            for name in ("on_train_begin", "on_step_begin", "on_step_end", "on_log", "on_evaluate", "on_train_end"):
                setattr(self, name, getattr(kit, name))

    sink = MemorySink()
    trainer = make_trainer(tmp_path, [Behind(TrackKit(sinks=[sink]))], val=VAL)
    trainer.train()
    trainer.evaluate()
    assert sink.history("batch/loss") == logged(trainer, "loss")
    assert sink.history("epoch/val/loss") == logged(trainer, "eval_loss")
    assert sink.columns["final/status"] == "finished"


def test_trackkit_keeps_no_trainer_alive(tmp_path: Path) -> None:
    """A trainer and its data are freed with the user's last reference, while TrackKit serves the next trainer."""
    kit = TrackKit()
    trainer = make_trainer(tmp_path / "a", [kit], val=VAL)
    trainer.train()
    trainer.evaluate()
    gone = [weakref.ref(trainer), weakref.ref(trainer.train_dataset)]  # type: ignore[arg-type]
    del trainer
    gc.collect()
    assert [each() for each in gone] == [None, None]
    make_trainer(tmp_path / "b", [kit], val=VAL).train()
    trackkit.finish()
    assert local_run(tmp_path / "a").run["run_id"] != local_run(tmp_path / "b").run["run_id"]
