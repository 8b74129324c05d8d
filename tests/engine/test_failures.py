"""Errors inside TrackKit are logged once and counted, and the training ends with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

import trackkit
from tests.support.failures import FRAMEWORKS, RECIPE, bare, boom, counted_boom, errors, train
from tests.support.local_log import local_run, local_runs
from tests.support.toy import TRAININGS
from trackkit import TrackKit
from trackkit.integrations.huggingface.adapter import HuggingFaceAdapter
from trackkit.integrations.huggingface.fit import Fit
from trackkit.integrations.lightning.adapter import LightningAdapter
from trackkit.integrations.lightning.clock import Clock
from trackkit.integrations.lightning.logged import Logged
from trackkit.integrations.lightning.position import Position
from trackkit.integrations.memory import MemorySink
from trackkit.session.session import Session

LIGHTNING = ["attach", "fit_begins", "before_step", "batch_ends", "evaluation_begins", "evaluation_ends", "fit_ends"]
LIGHTNING += ["saving_begins", "detach"]
LIGHTNING_INNER = [(Logged, "log_metrics"), (Logged, "complete_row"), (Clock, "resume"), (Position, "moment")]
HUGGINGFACE = ["open_fit", "epoch_ends", "logged", "paused", "fit_ends"]
HUGGINGFACE_INNER = ["step_begins", "before_step", "step_ends"]
# Called only when a checkpoint is saved.
SAVING = ["saving_begins", "checkpoint_fields"]


class Saves(pl.Callback):
    """Saves a checkpoint after every epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint("epoch.ckpt")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_without_errors_reports_none(framework: str, caplog: pytest.LogCaptureFixture) -> None:
    train(framework, TrackKit(sinks=[]))
    run = local_run(Path.cwd())
    assert (run.summary["final/tracker_errors"], run.summary["final/status"], errors(caplog)) == (0, "finished", [])


@pytest.mark.parametrize(
    ("framework", "adapter", "method"),
    [
        *(("lightning", LightningAdapter, method) for method in LIGHTNING),
        *(("lightning", room, method) for room, method in LIGHTNING_INNER),
        *(("huggingface", HuggingFaceAdapter, method) for method in HUGGINGFACE),
        *(("huggingface", Fit, method) for method in HUGGINGFACE_INNER),
        *((framework, Session, "checkpoint_fields") for framework in FRAMEWORKS),
    ],
)
def test_failing_hook_is_logged_once_and_training_continues(
    framework: str, adapter: type, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(adapter, method, counted_boom(calls, method))
    train(framework, TrackKit(sinks=[]), *([Saves()] if method in SAVING and framework == "lightning" else []))
    assert calls, "the hook was not called"
    logged = errors(caplog)
    assert logged
    assert len(set(logged)) == len(logged) <= len(calls)
    runs = local_runs(Path.cwd())
    assert len(runs) == int(calls not in (["fit_begins"], ["open_fit"]))
    for run in runs:
        after_the_end = 1 if method == "detach" else 0
        assert run.summary["final/tracker_errors"] == len(calls) - after_the_end


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_opening_a_run_is_tried_once_if_it_fails(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A try may take seconds: later logs and evaluations of the same training don't repeat it."""
    calls: list[str] = []
    monkeypatch.setattr("trackkit.session.open.open_session", counted_boom(calls, "open_session"))
    train(framework, TrackKit(sinks=[]))
    assert (len(calls), len(errors(caplog)), local_runs(Path.cwd())) == (1, 1, [])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_errors_are_summed_up_at_the_end(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trackkit.callbacks.loss.Loss.row", boom)
    monkeypatch.setattr("trackkit.callbacks.lr.LearningRate.row", boom)
    train(framework, TrackKit(sinks=[]))
    assert len(errors(caplog)) == 2
    assert [record.getMessage() for record in caplog.records if record.name == "trackkit"][-1] == (
        "TrackKit hit 2 internal errors (tracebacks above). Disabled: callback 'Loss', callback 'LearningRate'."
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_survives_a_failing_engine(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for method in ("batch", "row", "report", "seal", "gradients", "pause"):
        monkeypatch.setattr(f"trackkit.engine.tracker.Tracker.{method}", boom)
    train(framework, TrackKit(sinks=[]))
    assert errors(caplog)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_run_that_cannot_be_opened_is_logged_once(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trackkit.session.open.open_session", boom)
    train(framework, TrackKit(sinks=[]))
    assert local_runs(Path.cwd()) == []
    assert 1 <= len(errors(caplog)) == len(set(errors(caplog)))


def test_metric_that_is_no_number_is_warned_of_once_by_name(caplog: pytest.LogCaptureFixture) -> None:
    import transformers

    class Odd(transformers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
            logs.update(caption="a cat", nothing=None, table=[1, 2], many=torch.ones(3), one=torch.ones(1))  # type: ignore[attr-defined]

    weights = TRAININGS["huggingface"](RECIPE, Path("out"), [Odd(), TrackKit(sinks=[sink := MemorySink()])])
    assert torch.equal(weights.layers[0].weight, bare("huggingface")["layers.0.weight"])
    warnings = [record.getMessage() for record in caplog.records if "not a number" in record.getMessage()]
    assert sorted(line.split("'")[1] for line in warnings) == ["caption", "many", "table"]
    assert {value for _, value in sink.history("batch/one")} == {1.0}
    assert sink.history("batch/caption") == sink.history("batch/nothing") == []


class Cut(pl.Callback):
    """Raises in the middle of training, as the user's code may."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 20:
            raise ValueError("broken data")


def test_failing_on_exception_keeps_the_users_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LightningAdapter, "failed", boom)
    with pytest.raises(ValueError, match="broken data"):
        TRAININGS["lightning"](RECIPE, Path("out"), [TrackKit(sinks=[]), Cut()])
    trackkit.finish()
    assert errors(caplog) == ["TrackKit's on_exception failed; training continues without its values"]
    run = local_run(Path.cwd())
    assert (run.summary["final/status"], run.summary["final/tracker_errors"]) == ("failed", 1)


@pytest.mark.parametrize("stage", ["test", "validate", "predict"])
def test_evaluation_survives_every_failing_hook(
    stage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for method in ("attach", "evaluation_begins", "evaluation_ends", "detach"):
        monkeypatch.setattr(LightningAdapter, method, boom)
    monkeypatch.setattr(Logged, "log_metrics", boom)
    from tests.support.lightning_toys import Logging, data, trainer

    class Predicting(Logging):
        def forward(self, batch: Any) -> torch.Tensor:
            return self.layer(batch[0])

    getattr(trainer([TrackKit(sinks=[])]), stage)(Predicting(), data(2))
    assert errors(caplog)
    assert len(set(errors(caplog))) == len(errors(caplog))


def test_hugging_face_prediction_survives_its_failing_hook(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.support.huggingface_toys import make_trainer
    from tests.support.toy import Points

    for method in ("evaluated", "paused", "logged"):
        monkeypatch.setattr(HuggingFaceAdapter, method, boom)
    runner = make_trainer("out", [TrackKit(sinks=[])])
    found = runner.predict(Points(samples=8)).metrics["test_loss"]
    assert found == pytest.approx(make_trainer("out", []).predict(Points(samples=8)).metrics["test_loss"], abs=0)
    runner.evaluate(Points(samples=8))
    assert [line.split()[1] for line in errors(caplog)] == ["on_predict", "on_log", "on_evaluate"]
