"""Last row, status and exit code of fits that end, stop, fail, are interrupted or preempted."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import EarlyStopping

import trackkit
from tests.support.lightning_toys import Logging, batch_rows, data, epoch_rows, mean, record, trainer, untouched
from tests.support.local_log import local_run, local_runs
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


class Worsening(Logging):
    """Logs a validation loss that only gets worse."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", float(self.global_step))


@pytest.mark.parametrize("interval", [1.0, 0.25])
@pytest.mark.parametrize("first", [True, False])
def test_early_stopping_has_status_stopped_and_a_complete_last_row(interval: float, first: bool) -> None:
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
    """Stops the trainer in `hook` of its third batch."""

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
def test_should_stop_has_status_stopped_and_one_row_for_the_last_step(hook: str) -> None:
    module = Stopping(hook)
    sink = record(module, data(9))
    rows = batch_rows(sink)
    assert [row["batch/step"] for row in rows] == [1, 3]
    assert rows[1]["batch/loss"] == pytest.approx(mean(module.losses[1:]), rel=1e-5)
    assert rows[1]["batch/twice"] == pytest.approx(module.seen["train"][-1], rel=1e-5)
    # In `on_train_batch_end` the step has been taken.
    seen = {"batch/lr", "batch/grad_norm"} & rows[1].keys()
    assert seen == ({"batch/lr", "batch/grad_norm"} if hook == "training_step" else set())
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
def test_error_in_training_propagates_and_closes_the_run(
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


def test_error_in_an_evaluation_without_fit_fails_the_run() -> None:
    class Broken(Logging):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise ValueError("mine")

    sink = MemorySink()
    runner = trainer(TrackKit(sinks=[sink]))
    with pytest.raises(ValueError, match="mine"):
        runner.validate(Broken(), data(2))
    assert (sink.columns["final/status"], sink.exit_code) == ("failed", 1)
    assert untouched(runner)


def test_failed_test_after_a_fit_can_be_repeated_in_the_same_run(isolated: Path) -> None:
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


def test_sigterm_has_status_preempted() -> None:
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


def test_error_inside_trackkit_is_counted_and_training_continues(caplog: pytest.LogCaptureFixture) -> None:
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


def test_epoch_row_of_an_incomplete_epoch_has_its_fraction() -> None:
    sink = record(Logging(), data(4), data(1, seed=5), max_steps=6, max_epochs=-1, val_check_interval=2)
    assert [(row["epoch/step"], row["epoch/epoch"]) for row in epoch_rows(sink) if "epoch/train/twice" in row] == [
        (4, 1.0),
        (6, 1.5),
    ]


def test_evaluation_after_another_fit_keeps_the_status_of_its_own_fit(tmp_path: Path) -> None:
    """The second fit closes the run; the evaluation continues it."""
    module = Worsening()
    first = {"default_root_dir": str(tmp_path / "first"), "max_epochs": 9, "num_sanity_val_steps": 0}
    runner = trainer([TrackKit(sinks=[]), EarlyStopping("val_loss", patience=1)], **first)
    runner.fit(module, data(8), data(1))
    trainer(TrackKit(sinks=[]), default_root_dir=str(tmp_path / "second")).fit(Logging(), data(2))
    runner.validate(module, data(1))
    trackkit.finish()
    run = local_run(tmp_path / "first")
    assert (run.run["status"], run.summary["final/status"]) == ("stopped", "stopped")
    assert len([row for row in run.rows if "epoch/val/loss" in row]) == 3
