"""What goes wrong inside TrackKit: said once, counted, and the training ends with the weights it would have had."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

import trackkit
from tests.support.local_log import local_run, local_runs
from tests.support.toy import TRAININGS, Recipe
from trackkit import TrackKit
from trackkit.callbacks import CALLBACKS
from trackkit.callbacks.lr import LearningRate
from trackkit.integrations.huggingface import HuggingFaceAdapter
from trackkit.integrations.lightning import LightningAdapter
from trackkit.integrations.local import LocalSink
from trackkit.integrations.memory import MemorySink
from trackkit.integrations.wandb import WandbSink

# Row every five of 24 steps an epoch: the first epoch's last batch may be the last step, and makes no row.
RECIPE = Recipe(epochs=2, every=5)
FRAMEWORKS = sorted(TRAININGS)
CALLBACK_METHODS = ["start", "gradients", "row", "finish", "emitted", "ended", "final"]
SINK_METHODS = ["open", "write", "config", "summary", "close"]
LIGHTNING = ["attach", "fit_begins", "before_step", "batch_ends", "evaluation_begins", "evaluation_ends", "fit_ends"]
LIGHTNING_INNER = ["_logged", "_complete_row", "_resume", "_moment", "saving_begins", "detach"]
HUGGINGFACE = [
    "fit_begins",
    "step_begins",
    "before_step",
    "step_ends",
    "logged",
    "paused",
    "fit_ends",
]


class BoomError(RuntimeError):
    """What the tests raise inside TrackKit."""


def boom(*_: Any, **__: Any) -> Any:
    raise BoomError("out of order")


@functools.cache
def bare(framework: str) -> dict[str, torch.Tensor]:
    """The weights after training without TrackKit."""
    return TRAININGS[framework](RECIPE, Path("bare"), []).state_dict()


def train(framework: str, *callbacks: Any) -> None:
    """Trains, and checks the weights bit by bit."""
    weights = TRAININGS[framework](RECIPE, Path("out"), list(callbacks)).state_dict()
    trackkit.finish()
    assert all(torch.equal(weights[name], value) for name, value in bare(framework).items())


class Saves(pl.Callback):
    """Saves a checkpoint after every epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint("epoch.ckpt")


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """TrackKit's errors, each of which must carry its traceback."""
    found = [record for record in caplog.records if record.name == "trackkit" and record.levelno >= logging.ERROR]
    assert all(record.exc_info and record.exc_info[0] is BoomError for record in found)
    return [record.getMessage() for record in found]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_sound_training_reports_no_error(framework: str, caplog: pytest.LogCaptureFixture) -> None:
    train(framework, TrackKit(sinks=[]))
    run = local_run(Path.cwd())
    assert (run.summary["final/tracker_errors"], run.summary["final/status"], errors(caplog)) == (0, "finished", [])


# Hugging Face announces only steps that make rows: there is nothing to forget.
@pytest.mark.parametrize(
    ("framework", "method"),
    [*((framework, method) for framework in FRAMEWORKS for method in CALLBACK_METHODS), ("lightning", "forget")],
)
def test_a_failing_callback_is_switched_off_and_its_siblings_go_on(
    framework: str, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []
    monkeypatch.setattr(LearningRate, method, lambda *_: (calls.append(method), boom()))
    train(framework, TrackKit(sinks=[]))
    run = local_run(Path.cwd())
    assert len(calls) == 1
    assert errors(caplog) == [f"callback 'LearningRate' ({method}) failed and is switched off; training goes on"]
    assert run.summary["final/tracker_errors"] == 1
    assert run.summary["final/steps"] == 48
    assert len(run.history("batch/step_time_s")) == 11
    assert len(run.history("epoch/val/acc")) == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_all_callbacks_may_fail(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in CALLBACKS.values():
        monkeypatch.setattr(kind, "row", boom)
    train(framework, TrackKit(sinks=[]))
    run = local_run(Path.cwd())
    assert run.summary["final/tracker_errors"] == len(CALLBACKS) == len(errors(caplog))
    assert [step for step, _ in run.history("batch/acc")] == [1, *range(5, 46, 5), 48]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("method", SINK_METHODS)
def test_a_failing_sink_takes_no_other_with_it(
    framework: str, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, broken, last = MemorySink(), MemorySink(), MemorySink()
    monkeypatch.setattr(broken, method, boom)
    train(framework, TrackKit(sinks=[first, broken, last]))
    run = local_run(Path.cwd())
    assert errors(caplog) == [f"sink 'MemorySink' ({method}) failed and is switched off; training goes on"]
    assert [row.values for row in first.rows] == [row.values for row in last.rows]
    assert [row["_row"] for row in run.rows] == [row.number for row in last.rows] == list(range(13))
    assert (first.exit_code, last.exit_code) == (0, 0)
    if method != "close":
        assert run.summary["final/tracker_errors"] == last.columns["final/tracker_errors"] == 1
    assert run.run["status"] == "finished"


@pytest.mark.parametrize("method", SINK_METHODS)
def test_the_backends_go_on_without_the_local_log(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LocalSink, method, boom)
    sink = MemorySink()
    train("lightning", TrackKit(sinks=[sink]))
    assert len(errors(caplog)) == 1
    assert "'LocalSink'" in errors(caplog)[0]
    assert (len(sink.rows), sink.columns["final/steps"], sink.exit_code) == (13, 48, 0)


@pytest.mark.parametrize("method", ["_init", "_log", "_update_config", "_define"])
def test_the_local_log_goes_on_without_wandb(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(WandbSink, method, boom)
    train("lightning", TrackKit())
    run = local_run(Path.cwd())
    assert len(errors(caplog)) == 1
    assert "'WandbSink'" in errors(caplog)[0]
    assert (len(run.rows), run.summary["final/steps"], run.run["exit_code"]) == (13, 48, 0)


@pytest.mark.parametrize(
    ("framework", "adapter", "method"),
    [
        *(("lightning", LightningAdapter, method) for method in LIGHTNING + LIGHTNING_INNER),
        *(("huggingface", HuggingFaceAdapter, method) for method in HUGGINGFACE),
    ],
)
def test_a_failing_hook_is_told_once_and_the_training_goes_on(
    framework: str, adapter: type, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []
    monkeypatch.setattr(adapter, method, lambda *_, **__: (calls.append(method), boom()))
    train(framework, TrackKit(sinks=[]), *([Saves()] if method == "saving_begins" else []))
    assert calls, "the hook was never called"
    told = errors(caplog)
    assert told
    assert len(set(told)) == len(told) <= len(calls)
    runs = local_runs(Path.cwd())
    assert len(runs) == int(calls != ["fit_begins"] or framework == "huggingface")
    for run in runs:
        after_the_end = 1 if method == "detach" else 0
        assert run.summary["final/tracker_errors"] == len(calls) - after_the_end


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_engine_itself_may_fail(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for method in ("batch", "row", "report", "seal", "gradients", "pause"):
        monkeypatch.setattr(f"trackkit.tracker.Tracker.{method}", boom)
    train(framework, TrackKit(sinks=[]))
    assert errors(caplog)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_that_can_not_be_opened_is_told_once(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trackkit.session.open_session", boom)
    train(framework, TrackKit(sinks=[]))
    assert local_runs(Path.cwd()) == []
    assert 1 <= len(errors(caplog)) == len(set(errors(caplog)))


def test_a_metric_that_is_no_number_is_told_once_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    import transformers

    class Odd(transformers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
            logs.update(caption="a cat", nothing=None, table=[1, 2], many=torch.ones(3), one=torch.ones(1))  # type: ignore[attr-defined]

    weights = TRAININGS["huggingface"](RECIPE, Path("out"), [Odd(), TrackKit(sinks=[sink := MemorySink()])])
    assert torch.equal(weights.layers[0].weight, bare("huggingface")["layers.0.weight"])
    told = [record.getMessage() for record in caplog.records if "must be a number" in record.getMessage()]
    assert sorted(line.split("'")[1] for line in told) == ["caption", "many", "table"]
    assert {value for _, value in sink.history("batch/one")} == {1.0}
    assert sink.history("batch/caption") == sink.history("batch/nothing") == []


class Cut(pl.Callback):
    """Breaks the training off in the middle, as the user's own code may."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 20:
            raise ValueError("broken data")


def test_a_failing_on_exception_leaves_the_users_error_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LightningAdapter, "failed", boom)
    with pytest.raises(ValueError, match="broken data"):
        TRAININGS["lightning"](RECIPE, Path("out"), [TrackKit(sinks=[]), Cut()])
    trackkit.finish()
    assert errors(caplog) == ["on_exception failed; training goes on, without what it would have recorded"]
    run = local_run(Path.cwd())
    assert (run.summary["final/status"], run.summary["final/tracker_errors"]) == ("failed", 1)


@pytest.mark.parametrize("method", ["open", "config", "summary", "write"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_any_entry_of_the_wandb_sink_may_fail(
    framework: str, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(WandbSink, method, boom)
    train(framework, TrackKit())
    run = local_run(Path.cwd())
    assert errors(caplog) == [f"sink 'WandbSink' ({method}) failed and is switched off; training goes on"]
    assert (run.summary["final/tracker_errors"], len(run.rows), run.run["exit_code"]) == (1, 13, 0)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_error_at_the_close_is_counted_by_the_sinks_that_are_left(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("wandb.Run.finish", boom)
        train(framework, TrackKit())
    run = local_run(Path.cwd())
    assert errors(caplog) == ["sink 'WandbSink' (close) failed and is switched off; training goes on"]
    assert (run.summary["final/tracker_errors"], run.summary["final/status"]) == (1, "finished")


@pytest.mark.parametrize("stage", ["test", "validate", "predict"])
def test_an_evaluation_survives_every_hook(
    stage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for method in ("attach", "evaluation_begins", "evaluation_ends", "_logged", "detach"):
        monkeypatch.setattr(LightningAdapter, method, boom)
    from tests.support.lightning_toys import Logging, data, trainer

    class Predicting(Logging):
        def forward(self, batch: Any) -> torch.Tensor:
            return self.layer(batch[0])

    getattr(trainer([TrackKit(sinks=[])]), stage)(Predicting(), data(2))
    assert errors(caplog)
    assert len(set(errors(caplog))) == len(errors(caplog))


def test_a_hugging_face_prediction_survives_its_hook(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.support.huggingface_toys import make_trainer
    from tests.support.toy import Points

    for method in ("predicted", "paused", "logged"):
        monkeypatch.setattr(HuggingFaceAdapter, method, boom)
    runner = make_trainer("out", [TrackKit(sinks=[])])
    found = runner.predict(Points(samples=8)).metrics["test_loss"]
    assert found == pytest.approx(make_trainer("out", []).predict(Points(samples=8)).metrics["test_loss"], abs=0)
    runner.evaluate(Points(samples=8))
    assert [line.split()[0] for line in errors(caplog)] == ["on_predict", "on_log", "on_evaluate"]
