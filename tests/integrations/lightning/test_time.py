"""Step times and throughput leave out validations and checkpoints, in whichever hook they take their time."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback, Timer

from tests.support.fake_clock import FakeClock
from tests.support.lightning_toys import Logging, Silent, batch_rows, data, record, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

HOOKS = ("on_validation_start", "on_validation_epoch_end", "on_validation_end")
STEP_S, SAVE_S, VALIDATION_S = 0.05, 0.2, 0.3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch)


class Slow(Callback):
    """Takes its time in one hook."""

    def __init__(self, hook: str, take_time: Any) -> None:
        setattr(self, hook, take_time)


class Saves(Callback):
    """Saves a checkpoint in one hook: always, or only at batch `at`."""

    def __init__(self, hook: str, at: int = 0) -> None:
        def save(runner: Any, *arguments: Any) -> None:
            if not at or runner.fit_loop.epoch_loop.batch_idx == at:
                runner.save_checkpoint("saved.ckpt")

        setattr(self, hook, save)


class Steady(Silent):
    """Takes `STEP_S` for a batch and `SAVE_S` for a checkpoint."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.advance(STEP_S)
        return super().training_step(batch, batch_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.clock.advance(SAVE_S)


class SteadyLogging(Logging):
    """Takes `STEP_S` for a batch."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.advance(STEP_S)
        return super().training_step(batch, batch_idx)


def assert_steady(sink: MemorySink, rows: int) -> None:
    """Each row holds the time and the throughput of its own step."""
    assert [row["batch/step_time_s"] for row in batch_rows(sink)] == [pytest.approx(STEP_S)] * rows
    assert [row["batch/samples_per_s"] for row in batch_rows(sink)] == [pytest.approx(4 / STEP_S)] * rows


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("whose", ["module", "before", "after"])
def test_step_time_leaves_out_validations(clock: FakeClock, hook: str, whose: str) -> None:
    """The validation takes its time in the module, or in a callback before or after TrackKit."""
    sink, module = MemorySink(), SteadyLogging(clock)
    callbacks: list[Any] = [TrackKit(sinks=[sink])]
    if whose == "module":
        setattr(module, hook, clock.hook(VALIDATION_S))
    else:
        callbacks.insert(0 if whose == "before" else 1, Slow(hook, clock.hook(VALIDATION_S)))
    runner = trainer(callbacks, log_every_n_steps=1, val_check_interval=2, num_sanity_val_steps=0)
    runner.fit(module, data(4), data(1))
    assert_steady(sink, 4)


def test_last_row_leaves_out_a_validation_that_ends_the_training(clock: FakeClock) -> None:
    class Ending(SteadyLogging):
        def on_validation_end(self) -> None:
            self.clock.advance(VALIDATION_S)
            self.trainer.should_stop = True

    sink = record(Ending(clock), data(6), data(1), val_check_interval=3, num_sanity_val_steps=0)
    assert sink.history("batch/step_time_s") == [(1, pytest.approx(STEP_S)), (3, pytest.approx(STEP_S))]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("hook", ["on_fit_start", "on_train_start", "on_train_epoch_start"])
@pytest.mark.usefixtures("isolated")
def test_step_time_leaves_out_a_checkpoint_before_the_first_batch(clock: FakeClock, hook: str, first: bool) -> None:
    sink = MemorySink()
    callbacks: list[Any] = [TrackKit(sinks=[sink]), Saves(hook)]
    trainer(callbacks if first else callbacks[::-1], log_every_n_steps=1).fit(Steady(clock), data(3))
    assert_steady(sink, 3)


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_zero_grad", "on_train_batch_end"])
@pytest.mark.usefixtures("isolated")
def test_step_time_leaves_out_a_checkpoint_within_a_batch(clock: FakeClock, hook: str) -> None:
    sink = record(Steady(clock), data(6), log_every_n_steps=1, callbacks=[Saves(hook, at=3)])
    assert_steady(sink, 6)


class Opening(MemorySink):
    """Takes ten seconds to open."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock

    def open(self, info: Any) -> None:
        super().open(info)
        self.clock.advance(10.0)


@pytest.mark.parametrize("limit", ["before", "after", "max_time"])
def test_opening_a_run_does_not_count_against_a_time_limit(
    clock: FakeClock, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    kit = TrackKit(sinks=[Opening(clock)])
    timer = [] if limit == "max_time" else [Timer(timedelta(seconds=0.5))]
    arguments = {"max_time": timedelta(seconds=0.5)} if limit == "max_time" else {}
    module = Steady(clock)
    trainer([kit, *timer] if limit == "after" else [*timer, kit], **arguments).fit(module, data(99))
    assert len(module.losses) == pytest.approx(0.5 / STEP_S, abs=1)


def test_timer_without_a_limit_leaves_out_the_opening_too(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    timer = Timer()
    trainer([timer, TrackKit(sinks=[Opening(clock)])]).fit(Steady(clock), data(4))
    assert timer.time_elapsed("train") == pytest.approx(4 * STEP_S)


def test_users_own_clock_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of other callbacks replace `time.perf_counter` by times that are used up, one for each call."""
    asked: list[str] = []

    class Asking(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            asked.append("mine")
            time.perf_counter()

    def perf_counter() -> float:
        asked.append("clock")
        return 0.0

    class Patched(Logging):
        def on_train_epoch_start(self) -> None:
            monkeypatch.setattr(time, "perf_counter", perf_counter)

        def on_train_epoch_end(self) -> None:
            monkeypatch.undo()

    record(Patched(), data(6), data(2), callbacks=[Asking()], val_check_interval=3, log_every_n_steps=2)
    assert asked == ["mine", "clock"] * 6
