"""TrackKit beside Lightning's own loggers: neither loses or changes a row of the other."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

import trackkit
from tests.support.lightning_toys import Logging, data, mean, trainer
from tests.support.local_log import local_run
from tests.support.wandb_offline import find_runs, read_offline
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


@pytest.fixture(autouse=True)
def no_wandb_run_left() -> Iterator[None]:
    """Finishes the W&B run that a failing test leaves open, so that the next test does not write to it."""
    yield
    trackkit.finish()
    wandb.finish()


class Remembering(Logger):
    """Keeps every call of `log_metrics`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, float]] = []

    name = version = "remembering"  # type: ignore[assignment]

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Ignores hyperparameters."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.calls.append({**metrics, "step": -1 if step is None else step})


def fit(logger: Any, kit: TrackKit | None) -> Logging:
    """Runs the same training with several evaluations."""
    module = Logging()
    runner = trainer(kit, logger=logger, log_every_n_steps=2, max_epochs=2, val_check_interval=0.5)
    runner.fit(module, data(6), data(2, seed=5))
    runner.test(module, data(2, seed=6), verbose=False)
    return module


def test_other_loggers_get_the_same_calls_with_and_without_trackkit() -> None:
    beside, alone, sink = Remembering(), Remembering(), MemorySink()
    fit(beside, TrackKit(sinks=[sink]))
    fit(alone, None)
    assert beside.calls == alone.calls
    assert len(alone.calls) > 10
    assert sink.history("epoch/test/loss")


def test_metrics_csv_of_the_default_logger_is_unchanged(isolated: Path) -> None:
    for name, kit in (("with", TrackKit(sinks=[])), ("without", None)):
        fit(CSVLogger(isolated, name=name), kit)
    beside, alone = ((isolated / name / "version_0" / "metrics.csv").read_text() for name in ("with", "without"))
    assert beside == alone
    assert len(alone.splitlines()) > 10
    assert local_run(isolated).history("epoch/test/loss")


@pytest.mark.parametrize("logger", [True, False])
def test_rows_are_the_same_with_and_without_a_logger(logger: bool) -> None:
    def rows(kind: bool) -> list[dict[str, Any]]:
        sink = MemorySink()
        fit(kind, TrackKit(sinks=[sink]))
        return [{k: v for k, v in row.values.items() if not k.endswith(("_s", "_GB"))} for row in sink.rows]

    assert rows(logger) == rows(False)


def test_run_shared_with_a_wandb_logger_has_the_rows_of_both(isolated: Path) -> None:
    logger, remembering = WandbLogger(project="p", offline=True, save_dir=isolated), Remembering()
    module = fit([logger, remembering], TrackKit())
    assert trackkit.run is logger.experiment
    trackkit.finish()
    wandb.finish()
    run = read_offline(isolated)
    theirs = [{k: v for k, v in call.items() if k != "step"} for call in remembering.calls]
    found = [{key: value for key, value in row.items() if key in names(theirs)} for row in run.rows]
    assert [pytest.approx(row, rel=1e-6) for row in theirs] == [row for row in found if row]
    local = local_run(isolated)
    for key in ("batch/loss", "batch/grad_norm", "batch/twice", "epoch/train/twice", "epoch/val/loss"):
        assert run.history(key) == [(step, pytest.approx(value, rel=1e-6)) for step, value in local.history(key)]
        assert len(local.history(key)) >= 2
    assert run.history("epoch/test/loss") == [(12, pytest.approx(mean(module.seen["test"]), rel=1e-5))]
    steps = [row["_step"] for row in run.rows]
    assert steps == sorted(set(steps))


def names(rows: list[dict[str, float]]) -> set[str]:
    """Returns all keys of `rows`."""
    return {key for row in rows for key in row}


def test_wandb_run_has_every_row_its_axes_and_its_end(isolated: Path) -> None:
    module = Logging()
    trainer(TrackKit(project="p", name="n", group="g", tags=["t"]), log_every_n_steps=2).fit(
        module, data(5), data(2, seed=5)
    )
    assert trackkit.run is not None
    assert trackkit.run.id == local_run(isolated).run["run_id"]
    trackkit.finish()
    assert trackkit.run is None
    run = read_offline(isolated)
    local = local_run(isolated)
    assert (run.run_id, run.project, run.name, run.group) == (local.run["run_id"], "p", "n", "g")
    assert run.history("batch/loss") == [
        (end, pytest.approx(mean(module.losses[start:end]), rel=1e-5))
        for start, end in ((0, 1), (1, 2), (2, 4), (4, 5))
    ]
    assert run.history("epoch/val/loss") == [(5, pytest.approx(mean(module.seen["val"][-2:]), rel=1e-5))]
    assert run.axes["batch/loss"] == "batch/step"
    assert run.axes["epoch/val/loss"] == "epoch/step"
    assert {key: run.summary[key] for key in local.summary} == local.summary
    assert run.summary["final/status"] == "finished"
    assert run.exit_code == 0
    assert run.config["model/class"] == local.config["model/class"]


@pytest.mark.parametrize(
    ("error", "caught", "status", "exit_code"),
    [(ValueError("mine"), ValueError, "failed", 1), (KeyboardInterrupt(), SystemExit, "stopped", 255)],
)
def test_wandb_run_has_status_and_exit_code_of_an_error(
    isolated: Path, error: BaseException, caught: type[BaseException], status: str, exit_code: int
) -> None:
    class Failing(Logging):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                raise error
            return super().training_step(batch, batch_idx)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(caught):
        trainer(TrackKit()).fit(Failing(), data(4))
    signal.signal(signal.SIGINT, handler)
    run = read_offline(isolated)
    assert run.summary["final/status"] == status
    assert run.exit_code == exit_code
    assert [step for step, _ in run.history("batch/loss")] == [1, 2]


def test_two_fits_are_two_wandb_runs_and_the_test_is_in_the_second(isolated: Path) -> None:
    kit = TrackKit()
    for steps in (2, 3):
        runner, module = trainer(kit), Logging()
        runner.fit(module, data(steps))
    runner.test(module, data(2), verbose=False)
    trackkit.finish()
    runs = sorted((read_offline(path) for path in find_runs(isolated)), key=lambda run: run.summary["final/steps"])
    assert [run.summary["final/steps"] for run in runs] == [2, 3]
    assert [len(run.history("epoch/test/loss")) for run in runs] == [0, 1]
    assert math.isfinite(runs[1].summary["final/test/loss"])


def test_row_reads_the_device_once_and_lightning_converts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet(Logging):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            for name in "abc":
                self.log(name, loss)
            return loss

    reads = {"item": 0, "tolist": 0}

    def counting(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def read(tensor: torch.Tensor) -> Any:
            reads[name] += 1
            return original(tensor)

        return read

    for name in reads:
        monkeypatch.setattr(torch.Tensor, name, counting(name))

    def cost(kit: TrackKit | None) -> dict[str, int]:
        reads.update(item=0, tolist=0)
        trainer(kit, log_every_n_steps=2).fit(Quiet(), data(7), data(2))
        return dict(reads)

    bare, sink = cost(None), MemorySink()
    assert cost(TrackKit(sinks=[sink])) == {"item": bare["item"], "tolist": bare["tolist"] + len(sink.rows)}
    assert [step for step, _ in sink.history("batch/a")] == [1, 2, 4, 6, 7]
