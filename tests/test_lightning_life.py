"""How runs begin and end: fits, evaluations, stops, failures, and that nothing of TrackKit's stays behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from tests.support.lightning_toys import Logging, batch_rows, data, epoch_rows, mean, record, trainer
from tests.support.local_log import local_run, local_runs
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


def untouched(runner: pl.Trainer) -> bool:
    """Whether none of the trainer's own objects carries an attribute of TrackKit's."""
    wrapped = {"log_metrics", "update_train_step_metrics", "_on_before_fetch", "_on_after_fetch", "resume_end"}
    owners = (runner._logger_connector, runner._checkpoint_connector, runner.fit_loop.epoch_loop)
    return not any(wrapped & set(vars(owner)) for owner in owners)


def test_two_fits_of_one_trackkit_are_two_runs(isolated: Path) -> None:
    kit = TrackKit(mode="offline")
    for steps in (3, 5):
        runner = trainer(kit)
        runner.fit(Logging(), data(steps))
        assert untouched(runner)
    runs = local_runs(isolated)
    assert [run.summary["final/steps"] for run in runs] == [3, 5]
    assert [run.history("batch/step")[0][1] for run in runs] == [1, 1]
    assert runs[0].run["run_id"] != runs[1].run["run_id"]
    assert runs[0].run["exit_code"] == 0, "the first run is closed when the second begins"


def test_two_trackkits_in_one_process_are_two_runs() -> None:
    first, second = (record(Logging(), data(steps)) for steps in (3, 5))
    assert first.info is not None
    assert second.info is not None
    assert first.info.run_id != second.info.run_id
    assert (first.columns["final/steps"], second.columns["final/steps"]) == (3, 5)
    assert first.exit_code == 0


def test_a_trainer_that_fits_on_goes_on_counting_in_a_second_run(isolated: Path) -> None:
    runner = trainer(TrackKit(sinks=[]))
    module = Logging()
    runner.fit(module, data(3))
    runner.fit_loop.max_epochs = 2
    runner.fit(module, data(3))
    runs = local_runs(isolated)
    assert [[step for step, _ in run.history("batch/loss")] for run in runs] == [[1, 3], [4, 6]]
    assert runs[1].history("batch/epoch")[-1] == (6, 2.0)


def test_fit_then_test_is_one_run_at_the_last_step(isolated: Path) -> None:
    sink, module = MemorySink(), Logging()
    runner = trainer(TrackKit(sinks=[sink]), max_steps=5, max_epochs=-1)
    runner.fit(module, data(4), data(2, seed=5))
    assert runner.test(module, data(3, seed=6), verbose=False)
    assert sink.rows[-1].values == {
        "epoch/step": 5,
        "epoch/epoch": 1.25,
        "epoch/test/loss": pytest.approx(mean(module.seen["test"]), rel=1e-5),
    }
    assert sink.columns["final/test/loss"] == sink.rows[-1].values["epoch/test/loss"]
    assert sink.columns["final/status"] == "finished"
    assert local_run(isolated).summary["final/steps"] == 5
    assert untouched(runner)


def test_a_second_trainer_that_tests_goes_on_in_the_run(isolated: Path) -> None:
    sink, module = MemorySink(), Logging()
    kit = TrackKit(sinks=[sink])
    fitter, tester = trainer(kit), trainer(kit)
    fitter.fit(module, data(4))
    tester.test(module, data(3, seed=6), verbose=False)
    assert sink.history("epoch/test/loss") == [(4, pytest.approx(mean(module.seen["test"]), rel=1e-5))]
    assert len(local_runs(isolated)) == 1
    assert untouched(fitter)
    assert untouched(tester)


@pytest.mark.parametrize("weights_only", [False, True])
def test_testing_the_best_checkpoint_stands_at_the_checkpoints_step(isolated: Path, weights_only: bool) -> None:
    module, sink = Logging(lr=0.6), MemorySink()
    best = ModelCheckpoint(isolated, monitor="val_loss", save_weights_only=weights_only)
    runner = trainer([TrackKit(sinks=[sink]), best], max_epochs=3, enable_checkpointing=True)
    runner.fit(module, data(4), data(2, seed=5))
    losses = sink.history("epoch/val/loss")
    step, loss = min(losses, key=lambda entry: entry[1])
    assert step < 12, "the last weights would not tell the best from the last"
    runner.test(module, data(2, seed=5), ckpt_path="best", verbose=False)
    assert sink.history("epoch/test/loss") == [(step, pytest.approx(loss, rel=1e-5))]
    assert (sink.columns["final/best/val/loss"], sink.columns["final/best/val/loss_step"]) == (loss, step)
    assert sink.columns["final/val/loss"] == losses[-1][1]
    runner.validate(module, data(2, seed=5), verbose=False)
    assert sink.rows[-1].step == 12


@pytest.mark.parametrize("weights_only", [False, True])
def test_validating_a_checkpoint_alone_is_a_run_at_its_step(isolated: Path, weights_only: bool) -> None:
    module = Logging()
    runner = trainer()
    runner.fit(module, data(6))
    runner.save_checkpoint(isolated / "a.ckpt", weights_only=weights_only)
    sink = MemorySink()
    trainer(TrackKit(sinks=[sink])).validate(module, data(2, seed=5), ckpt_path=isolated / "a.ckpt", verbose=False)
    assert sink.history("epoch/val/loss") == [(6, pytest.approx(mean(module.seen["val"]), rel=1e-5))]
    assert sink.columns["final/status"] == "finished"


def test_validating_untrained_weights_alone_is_a_run_at_step_zero(isolated: Path) -> None:
    module, sink = Logging(), MemorySink()
    trainer(TrackKit(sinks=[sink])).validate(module, data(2, seed=5), verbose=False)
    loss = pytest.approx(mean(module.seen["val"]), rel=1e-5)
    assert [row.values for row in sink.rows] == [{"epoch/step": 0, "epoch/val/loss": loss}]
    assert local_run(isolated).summary["final/val/loss"] == loss


def test_validate_then_fit_is_one_run(isolated: Path) -> None:
    module, sink = Logging(), MemorySink()
    kit = TrackKit(sinks=[sink])
    runner = trainer(kit)
    runner.validate(module, data(2, seed=5), verbose=False)
    runner.fit(module, data(3), data(2, seed=5))
    assert [step for step, _ in sink.history("epoch/val/loss")] == [0, 3]
    assert [step for step, _ in sink.history("batch/loss")] == [1, 3]
    assert [row.number for row in sink.rows] == list(range(len(sink.rows)))
    assert len(local_runs(isolated)) == 1
    assert sink.columns["final/status"] == "finished"
    assert sink.settings["data/train_samples"] == 12


class Predicting(Logging):
    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0])


def test_predict_alone_makes_no_run(isolated: Path) -> None:
    assert trainer(TrackKit()).predict(Predicting(), data(2))
    assert list(isolated.iterdir()) == []


@pytest.mark.parametrize("off", [{"fast_dev_run": True}, {"barebones": True}])
def test_fast_dev_run_and_barebones_record_nothing(isolated: Path, off: dict[str, Any]) -> None:
    sink = MemorySink()
    runner = pl.Trainer(callbacks=TrackKit(sinks=[sink]), accelerator="cpu", max_epochs=1, **off)
    runner.fit(Logging(), data(2), data(2))
    assert sink.info is None
    assert not list(isolated.glob("**/trackkit-runs"))
    assert untouched(runner)


class Worsening(Logging):
    """Its validation only gets worse."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", float(self.global_step))


@pytest.mark.parametrize("interval", [1.0, 0.25])
@pytest.mark.parametrize("first", [True, False])
def test_early_stopping_is_stopped_and_its_last_step_has_a_whole_row(interval: float, first: bool) -> None:
    sink, module = MemorySink(), Worsening()
    kit, stopping = TrackKit(sinks=[sink]), EarlyStopping("val_loss", patience=1)
    callbacks = [kit, stopping] if first else [stopping, kit]
    runner = trainer(callbacks, max_epochs=9, val_check_interval=interval, num_sanity_val_steps=0)
    runner.fit(module, data(8), data(1))
    last = 16 if interval == 1.0 else 4
    assert runner.global_step == last
    assert sink.columns["final/status"] == "stopped"
    rows = [row for row in batch_rows(sink) if row["batch/step"] == last]
    assert len(rows) == 1
    assert {"batch/loss", "batch/lr", "batch/grad_norm"} <= set(rows[0])
    assert rows[0]["batch/twice"] == pytest.approx(module.seen["train"][-1], rel=1e-5)


class Stopping(Logging):
    """Asks the trainer to stop at its third batch, in one of three hooks."""

    def __init__(self, hook: str) -> None:
        super().__init__()
        self.hook = hook

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.hook == "training_step" and batch_idx == 2:
            self.trainer.should_stop = True
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.hook == "on_train_batch_end" and batch_idx == 2:
            self.trainer.should_stop = True


@pytest.mark.parametrize("hook", ["training_step", "on_train_batch_end"])
def test_should_stop_ends_the_run_as_stopped_with_one_row_for_the_last_step(hook: str) -> None:
    module = Stopping(hook)
    sink = record(module, data(9))
    rows = batch_rows(sink)
    assert [row["batch/step"] for row in rows] == [1, 3]
    assert rows[1]["batch/loss"] == pytest.approx(mean(module.losses[1:]), rel=1e-5)
    assert rows[1]["batch/twice"] == pytest.approx(module.seen["train"][-1], rel=1e-5)
    assert ("batch/grad_norm" in rows[1]) == (hook == "training_step"), "gradients of the past can't be measured"
    assert sink.columns["final/status"] == "stopped"


class Failing(Logging):
    """Raises `error` in its fourth training step."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 3:
            raise self.error
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("error", "seen", "status", "exit_code"),
    [
        (RuntimeError("mine"), RuntimeError, "failed", 1),
        (KeyboardInterrupt(), SystemExit, "stopped", 255),
    ],
)
def test_an_error_in_training_propagates_and_closes_the_run(
    isolated: Path, error: BaseException, seen: type[BaseException], status: str, exit_code: int
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    sink, module = MemorySink(), Failing(error)
    runner = trainer(TrackKit(sinks=[sink]))
    with pytest.raises(seen) as caught:
        runner.fit(module, data(6))
    signal.signal(signal.SIGINT, handler)
    assert caught.value is error or seen is SystemExit
    assert (sink.columns["final/status"], sink.exit_code) == (status, exit_code)
    assert sink.columns["final/steps"] == 3
    assert sink.history("batch/loss")[-1] == (3, pytest.approx(mean(module.losses[1:]), rel=1e-5))
    run = local_run(isolated)
    assert (run.run["status"], run.run["exit_code"]) == (status, exit_code)
    assert untouched(runner)


def test_an_error_in_an_evaluation_alone_fails_its_run() -> None:
    class Broken(Logging):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise ValueError("mine")

    sink = MemorySink()
    runner = trainer(TrackKit(sinks=[sink]))
    with pytest.raises(ValueError, match="mine"):
        runner.validate(Broken(), data(2))
    assert (sink.columns["final/status"], sink.exit_code) == ("failed", 1)
    assert untouched(runner)


def test_a_test_that_fails_after_a_fit_can_be_tried_again_in_the_same_run(isolated: Path) -> None:
    class Flaky(Logging):
        healthy = False

        def test_step(self, batch: Any, batch_idx: int) -> None:
            if not self.healthy:
                raise ValueError("mine")
            super().test_step(batch, batch_idx)

    module, sink = Flaky(), MemorySink()
    runner = trainer(TrackKit(sinks=[sink]))
    runner.fit(module, data(3))
    with pytest.raises(ValueError, match="mine"):
        runner.test(module, data(2))
    module.healthy = True
    runner.test(module, data(2), verbose=False)
    assert sink.history("epoch/test/loss") == [(3, pytest.approx(mean(module.seen["test"]), rel=1e-5))]
    assert len(local_runs(isolated)) == 1


def test_sigterm_is_preemption() -> None:
    class Terminated(Logging):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    sink = MemorySink()
    runner = trainer(TrackKit(sinks=[sink]))
    with pytest.raises(SystemExit):
        runner.fit(Terminated(), data(6))
    assert (sink.columns["final/status"], sink.exit_code) == ("preempted", 1)
    assert untouched(runner)


def test_an_error_inside_trackkit_is_counted_and_training_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Unwritable(MemorySink):
        def write(self, row: Any) -> None:
            raise OSError("no space")

    sink, spare = Unwritable(), MemorySink()
    module = Logging()
    trainer(TrackKit(sinks=[sink, spare])).fit(module, data(3))
    assert len(module.losses) == 3
    assert spare.history("batch/loss")
    assert spare.columns["final/tracker_errors"] == 1
    assert [r for r in caplog.records if "no space" in str(r.exc_info)]


def test_epoch_rows_of_a_cut_epoch_stand_at_its_fraction() -> None:
    sink = record(Logging(), data(4), data(1, seed=5), max_steps=6, max_epochs=-1, val_check_interval=2)
    assert [(row["epoch/step"], row["epoch/epoch"]) for row in epoch_rows(sink) if "epoch/train/twice" in row] == [
        (4, 1.0),
        (6, 1.5),
    ]
