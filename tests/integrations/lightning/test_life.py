"""Fits and evaluations: which run and step they belong to; trainers are restored afterwards."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import trackkit
from tests.support.lightning_toys import Logging, batch_rows, data, mean, record, trainer, untouched
from tests.support.local_log import local_run, local_runs
from trackkit import TrackKit, TrackKitError
from trackkit.integrations.memory import MemorySink


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
    assert runs[0].run["exit_code"] == 0, "the second fit closes the first run"


def test_two_trackkits_in_one_process_are_two_runs() -> None:
    first, second = (record(Logging(), data(steps)) for steps in (3, 5))
    assert first.info is not None
    assert second.info is not None
    assert first.info.run_id != second.info.run_id
    assert (first.columns["final/steps"], second.columns["final/steps"]) == (3, 5)
    assert first.exit_code == 0


def test_second_fit_of_a_trainer_continues_its_steps_in_a_second_run(isolated: Path) -> None:
    runner = trainer(TrackKit(sinks=[]))
    module = Logging()
    runner.fit(module, data(3))
    runner.fit_loop.max_epochs = 2
    runner.fit(module, data(3))
    runs = local_runs(isolated)
    assert [[step for step, _ in run.history("batch/loss")] for run in runs] == [[1, 3], [4, 6]]
    assert runs[1].history("batch/epoch")[-1] == (6, 2.0)


def test_test_after_a_fit_is_in_its_run_at_the_last_step(isolated: Path) -> None:
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


def test_test_by_a_second_trainer_is_in_the_run_of_the_fit(isolated: Path) -> None:
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
def test_test_of_the_best_checkpoint_has_the_checkpoints_step(isolated: Path, weights_only: bool) -> None:
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
def test_validation_of_a_checkpoint_without_fit_has_its_step(isolated: Path, weights_only: bool) -> None:
    module = Logging()
    runner = trainer()
    runner.fit(module, data(6))
    runner.save_checkpoint(isolated / "a.ckpt", weights_only=weights_only)
    sink = MemorySink()
    trainer(TrackKit(sinks=[sink])).validate(module, data(2, seed=5), ckpt_path=isolated / "a.ckpt", verbose=False)
    assert sink.history("epoch/val/loss") == [(6, pytest.approx(mean(module.seen["val"]), rel=1e-5))]
    assert sink.columns["final/status"] == "finished"


def test_validation_of_untrained_weights_has_step_zero(isolated: Path) -> None:
    module, sink = Logging(), MemorySink()
    trainer(TrackKit(sinks=[sink])).validate(module, data(2, seed=5), verbose=False)
    loss = pytest.approx(mean(module.seen["val"]), rel=1e-5)
    assert [row.values for row in sink.rows] == [{"epoch/step": 0, "epoch/val/loss": loss}]
    assert local_run(isolated).summary["final/val/loss"] == loss


def test_validation_before_a_fit_is_in_its_run(isolated: Path) -> None:
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


def test_predict_without_fit_makes_no_run(isolated: Path) -> None:
    assert trainer(TrackKit()).predict(Predicting(), data(2))
    assert list(isolated.iterdir()) == []


@pytest.mark.parametrize("off", [{"fast_dev_run": True}, {"barebones": True}])
def test_fast_dev_run_and_barebones_record_nothing(isolated: Path, off: dict[str, Any]) -> None:
    sink = MemorySink()
    runner = pl.Trainer(callbacks=TrackKit(sinks=[sink]), accelerator="cpu", max_epochs=1, **off)
    runner.fit(Logging(), data(2), data(2))
    assert sink.info is None
    assert not list(isolated.glob("**/_trackkit"))
    assert untouched(runner)


def test_subclass_with_its_own_hook_is_called_at_every_step() -> None:
    class Mine(TrackKit):
        steps = 0

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            super().on_before_optimizer_step(trainer, pl_module, optimizer)
            self.steps += 1

    sink = MemorySink()
    kit = Mine(sinks=[sink])
    trainer(kit, max_epochs=2).fit(Logging(), data(7))
    assert kit.steps == 14
    assert [step for step, _ in sink.history("batch/grad_norm")] == [1, 14]


def test_columns_of_a_second_fit_count_the_same_steps(isolated: Path) -> None:
    runner, module, runs = trainer(TrackKit(sinks=[]), max_epochs=1), Logging(), []
    for batches in (3, 3, 3):
        runner.fit(module, data(batches))
        runner.fit_loop.max_epochs += 1
    trackkit.finish()
    for number, run in enumerate(local_runs(isolated), 1):
        runs.append(run.summary)
        last = [row for row in run.rows if "batch/step" in row][-1]
        assert (last["batch/step"], last["batch/samples"], last["batch/epoch"]) == (3 * number, 12 * number, number)
        assert run.summary["final/steps"] == 3 * number
        assert run.summary["final/epochs"] == number
        assert run.summary["final/samples"] == 12 * number
    hours = [run["final/duration_h"] for run in runs]
    assert 0 < hours[0] < hours[1] < hours[2]


def test_fit_after_a_failed_one_counts_its_steps(isolated: Path) -> None:
    class Fails(Logging):
        fails = True

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.fails and batch_idx == 2:
                raise ValueError("mine")
            return super().training_step(batch, batch_idx)

    runner, module = trainer(TrackKit(sinks=[])), Fails()
    with pytest.raises(ValueError, match="mine"):
        runner.fit(module, data(3))
    module.fails = False
    runner.fit(module, data(3))
    run = local_runs(isolated)[-1]
    assert run.summary["final/steps"] * 4 == run.summary["final/samples"]


@pytest.mark.parametrize("again", ["validate", "other process"])
def test_evaluating_another_set_after_the_fit_keeps_its_best_value(isolated: Path, again: str) -> None:
    module, sink = Logging(), MemorySink()
    kit = TrackKit(sinks=[sink])
    runner = trainer(kit, max_epochs=2)
    runner.fit(module, data(4), data(2, seed=5))
    best = {key: value for key, value in sink.columns.items() if key.startswith("final/best/")}
    assert best
    module.layer.weight.data.fill_(1.0)
    module.layer.bias.data.zero_()
    if again == "other process":
        trackkit.finish()
        runner = trainer(pickle.loads(pickle.dumps(kit)), max_epochs=2)
    easy = torch.randn(8, 4)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(easy, easy.sum(1, keepdim=True)), 4)
    runner.validate(module, loader, verbose=False)
    trackkit.finish()
    run = local_run(isolated)
    assert run.summary["final/val/loss"] < 1e-6 < best["final/best/val/loss"]
    assert {key: value for key, value in run.summary.items() if key.startswith("final/best/")} == best


def test_module_without_an_optimizer_records_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    class Frozen(Logging):
        def configure_optimizers(self) -> Any:
            return None

    sink = record(Frozen(), data(5), data(2), log_every_n_steps=2)
    assert [record for record in caplog.records if record.name == "trackkit"] == []
    assert sink.columns["final/tracker_errors"] == 0
    assert sink.columns["final/status"] == "finished"
    for row in batch_rows(sink):
        assert {"batch/loss", "batch/twice", "batch/samples"} <= row.keys()
        assert {"batch/lr", "batch/grad_norm"}.isdisjoint(row)
    assert len(sink.history("epoch/val/loss")) == 1


@pytest.mark.parametrize("root", ["lightning.fabric", "lightning_fabric"])
def test_fabric_refuses_a_trackkit(root: str) -> None:
    fabric = importlib.import_module(root).Fabric
    for callbacks in (TrackKit(), [TrackKit()]):
        with pytest.raises(TrackKitError, match=r"Use trackkit\.loop in your loop, or lightning\.pytorch\.Trainer"):
            fabric(accelerator="cpu", callbacks=callbacks)
    assert fabric(accelerator="cpu", devices=1, callbacks=[object()])
