"""TrackKit leaves trainers, copies of them and other callbacks as they would be without it."""

# ruff: noqa: SLF001 -- copies of private objects are compared

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback

from tests.support.lightning_toys import HOOKS, Group, Logging, batch_rows, data, record, trainer, untouched
from tests.support.local_log import local_run
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


class Asking(Callback):
    """Collects the hooks of `kit` that can't be called, at every batch."""

    def __init__(self, kit: TrackKit) -> None:
        self.kit = kit
        self.asked = 0
        self.missing: set[str] = set()

    def on_train_batch_end(self, *args: Any) -> None:
        self.asked += 1
        self.missing |= {name for name in HOOKS if not callable(getattr(self.kit, name))}


def test_every_hook_can_be_called_during_a_fit() -> None:
    kit = TrackKit(sinks=[])
    asking = Asking(kit)
    trainer([asking, kit], max_epochs=2).fit(Logging(), data(3), data(2))
    assert (asking.asked, asking.missing) == (6, set())


@pytest.mark.parametrize("finder", [False, True])
def test_trackkit_inside_another_callback_records_the_same(finder: bool) -> None:
    sink = MemorySink()
    others, more = ([pl.callbacks.LearningRateFinder(num_training_steps=20)] * finder for _ in range(2))
    trainer([Group(TrackKit(sinks=[sink])), *others], max_epochs=2).fit(Logging(), data(6), data(2))
    alone = record(Logging(), data(6), data(2), max_epochs=2, callbacks=more)
    assert [set(row.values) for row in sink.rows] == [set(row.values) for row in alone.rows]
    assert [row.step for row in sink.rows] == [row.step for row in alone.rows]
    assert batch_rows(sink)[-1]["batch/loss"] == pytest.approx(batch_rows(alone)[-1]["batch/loss"], rel=1e-5)
    assert sink.columns["final/tracker_errors"] == 0


@pytest.mark.parametrize("when", ["before", "during"])
def test_trainers_own_save_checkpoint_stays(when: str) -> None:
    saved: list[Any] = []
    runner = trainer(TrackKit(sinks=[]))

    def mine(path: Any, *args: Any) -> str:
        saved.append(path)
        return "mine"

    class Setting(Logging):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 1 and when == "during":
                self.trainer.save_checkpoint = mine
            elif batch_idx == 2:
                assert self.trainer.save_checkpoint("a") == "mine"

    if when == "before":
        vars(runner)["save_checkpoint"] = mine
    for _ in range(2):
        runner.fit(Setting(), data(3))
        runner.fit_loop.max_epochs += 1
        assert vars(runner)["save_checkpoint"] is mine
    assert saved == ["a", "a"]
    del vars(runner)["save_checkpoint"]
    assert untouched(runner)


def test_wrapper_that_a_user_keeps_calls_the_trainers_own_method_afterwards(isolated: Path) -> None:
    class Wrapping(Logging):
        def on_train_start(self) -> None:
            inner = self.trainer.save_checkpoint
            self.trainer.save_checkpoint = lambda path: inner(f"{path}.ckpt")

    runner = trainer(TrackKit(sinks=[]))
    runner.fit(Wrapping(), data(2))
    runner.save_checkpoint("saved")
    assert (isolated / "saved.ckpt").is_file()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))], ids=["", "pickle"]
)
@pytest.mark.parametrize("fails", [False, True])
def test_trainer_copied_during_a_fit_is_a_trainer_of_its_own(isolated: Path, duplicate: Any, fails: bool) -> None:
    class Copying(Logging):
        twin: Any = None

        def on_train_start(self) -> None:
            # An iterator over the data can't be copied.
            fetcher, self.trainer.fit_loop._data_fetcher = self.trainer.fit_loop._data_fetcher, None
            type(self).twin = duplicate(self.trainer)
            self.trainer.fit_loop._data_fetcher = fetcher

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if fails:
                raise ValueError("mine")
            return super().training_step(batch, batch_idx)

    globals()["Copying"] = Copying
    Copying.__qualname__ = "Copying"
    runner = trainer(TrackKit(sinks=[]), max_epochs=1)
    try:
        runner.fit(Copying(), data(3))
    except ValueError:
        assert fails
    twin = Copying.twin
    for owner in (twin, twin._logger_connector, twin._checkpoint_connector, twin.fit_loop.epoch_loop):
        for value in vars(owner).values():
            assert getattr(value, "__self__", owner) is owner
    assert untouched(runner)
    if not fails:
        twin.save_checkpoint(isolated / "twin.ckpt")
        assert (isolated / "twin.ckpt").is_file()
        assert len(local_run(isolated).history("batch/loss")) == 2
