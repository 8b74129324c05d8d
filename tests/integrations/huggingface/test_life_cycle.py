"""Hugging Face: how trainings end, resume and start again in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer

from tests.support.huggingface_toys import Sequential, logged, make_trainer, mean_accuracy, train
from tests.support.local_log import local_run, local_runs
from tests.support.toy import Net, Points
from trackkit import TrackKit, finish
from trackkit.integrations.memory import MemorySink

VAL = Points(5, 12)


class Frozen(Net):
    """Learns nothing, so that no evaluation is better than the first."""

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        out = super().forward(features, labels)
        return {"loss": out["loss"] + 0 * out["logits"].sum(), "logits": out["logits"]}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_early_stopping_gives_status_stopped_and_a_last_row(tmp_path: Path, strategy: str, first: bool) -> None:
    """Whichever callback comes first, and whether the evaluation is at a step or at an epoch's end."""
    stopper = EarlyStoppingCallback(early_stopping_patience=2)
    sink, trainer = train(
        tmp_path,
        **{"before" if first else "after": [stopper]},
        model=Frozen(),
        val=VAL,
        learning_rate=0.0,
        num_train_epochs=10,
        eval_strategy=strategy,
        eval_steps=3,
        logging_steps=500,
        metric_for_best_model="loss",
    )
    last = trainer.state.global_step
    assert last == {"epoch": 18, "steps": 9}[strategy]
    assert sink.columns["final/status"] == "stopped"
    assert sink.columns["final/steps"] == last
    assert sink.history("batch/loss") == logged(trainer, "loss")
    row = next(row for row in sink.rows if row.tier == "batch" and row.step == last)
    assert {"batch/lr", "batch/samples", "batch/step_time_s"} <= row.values.keys()
    assert row.values["batch/samples"] == last * 4
    assert [step for step, _ in sink.history("epoch/val/loss")] == [last - 2 * last // 3, last - last // 3, last]
    finish()
    assert sink.exit_code == 0


@pytest.mark.parametrize(("name", "greater", "lr"), [("loss", False, 5.0), ("eval_acc", True, 1.0)])
def test_best_equals_the_trainer_s_best(tmp_path: Path, name: str, greater: bool, lr: float) -> None:
    """Value and step of `final/best/val/...` equal the trainer's own, for either goal."""
    sink, trainer = train(
        tmp_path, val=VAL, metrics=mean_accuracy, num_train_epochs=4, eval_strategy="epoch", save_strategy="epoch",
        load_best_model_at_end=True, metric_for_best_model=name, learning_rate=lr, save_only_model=True,
    )  # fmt: skip
    short = name.removeprefix("eval_")
    values = [value for _, value in sink.history(f"epoch/val/{short}")]
    assert trainer.state.best_metric == (max if greater else min)(values)
    assert values[-1] != values[0], "the metric must change, or the test shows nothing"
    assert trainer.state.best_global_step != 24, "the best must not be the last, or the test shows nothing"
    assert sink.columns[f"final/best/val/{short}"] == trainer.state.best_metric
    assert sink.columns[f"final/best/val/{short}_step"] == trainer.state.best_global_step
    other, best = ("acc", max) if short == "loss" else ("loss", min)
    assert sink.columns[f"final/best/val/{other}"] == best(value for _, value in sink.history(f"epoch/val/{other}"))
    assert sink.columns["final/status"] == "finished"


def test_best_is_of_each_set(tmp_path: Path) -> None:
    """`metric_for_best_model="b_loss"` with a dict of sets means `epoch/val/b/loss`."""
    sets = {"a": VAL, "b": Points(6, 8)}
    sink, trainer = train(
        tmp_path, val=sets, num_train_epochs=3, eval_strategy="epoch", save_strategy="epoch",
        load_best_model_at_end=True, metric_for_best_model="b_loss", learning_rate=3.0, save_only_model=True,
    )  # fmt: skip
    best = {key: value for key, value in sink.columns.items() if key.startswith("final/best/")}
    value, step = min((value, step) for step, value in sink.history("epoch/val/a/loss"))
    assert best == {
        "final/best/val/a/loss": value,
        "final/best/val/a/loss_step": step,
        "final/best/val/b/loss": trainer.state.best_metric,
        "final/best/val/b/loss_step": trainer.state.best_global_step,
    }


def test_max_steps_gives_status_finished(tmp_path: Path) -> None:
    """In the middle of an epoch."""
    sink, _ = train(tmp_path, max_steps=5)
    assert [step for step, _ in sink.history("batch/loss")] == [1, 2, 4]
    assert [step for step, _ in sink.history("batch/lr")] == [1, 2, 4, 5]
    assert (sink.columns["final/status"], sink.columns["final/steps"]) == ("finished", 5)
    assert sink.columns["final/epochs"] == pytest.approx(5 / 6)


def test_training_twice_makes_two_runs(tmp_path: Path) -> None:
    """One trainer, trained twice: each run is complete."""
    trainer = make_trainer(tmp_path, [TrackKit(sinks=[MemorySink()])])
    first = trainer.train().global_step
    assert first == trainer.train().global_step == 6
    finish()
    runs = local_runs(tmp_path)
    assert [[step for step, _ in run.history("batch/loss")] for run in runs] == [[1, 2, 4, 6]] * 2
    assert {run.run["status"] for run in runs} == {"finished"}
    assert len({run.run["run_id"] for run in runs}) == 2


@pytest.mark.parametrize("given", [{"report_to": "trackkit"}, {"report_to": ["trackkit"]}, {}])
def test_two_trainers_make_two_runs(tmp_path: Path, given: dict[str, Any]) -> None:
    """With `report_to` as a word and as a list, and with the class in `callbacks`."""
    for name in ("a", "b"):
        make_trainer(tmp_path / name, [] if given else [TrackKit], **given).train()
    finish()
    for name in ("a", "b"):
        run = local_run(tmp_path / name)
        assert [step for step, _ in run.history("batch/loss")] == [1, 2, 4, 6]
        assert (run.run["status"], run.run["exit_code"], run.run["framework"]) == ("finished", 0, "huggingface")


def test_resumed_training_continues_at_its_step(tmp_path: Path) -> None:
    """Steps, samples, epochs and values equal those of the uninterrupted training."""
    given: dict[str, Any] = {"num_train_epochs": 2, "logging_steps": 1, "samples": 22}
    whole, _ = train(tmp_path / "whole", **given, save_strategy="steps", save_steps=4)
    sink = MemorySink()
    trainer = make_trainer(tmp_path / "resumed", [TrackKit(sinks=[sink])], **given)
    trainer.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert [row.step for row in sink.rows] == list(range(5, 13))
    for key in ("batch/loss", "batch/grad_norm", "batch/lr", "batch/samples", "batch/epoch", "batch/iter_num"):
        assert sink.history(key) == [pytest.approx(pair) for pair in whole.history(key) if pair[0] > 4], key
    assert sink.columns["final/samples"] == whole.columns["final/samples"] == 44


class Hungry(Sequential):
    """Raises CUDA's out-of-memory error in its call number `fails`."""

    calls = 0
    fails = 3

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        type(self).calls += 1
        if self.calls == self.fails:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().training_step(*args, **kwargs)


def _hungry(out: Path, fails: int, **given: Any) -> Any:
    kind = type("Hungry", (Hungry,), {"fails": fails})
    trainer = make_trainer(
        out, [TrackKit(**given)], kind=kind, auto_find_batch_size=True, per_device_train_batch_size=8, samples=21
    )
    trainer.train()
    finish()
    size = trainer.state.train_batch_size
    assert size is not None
    assert size < 8
    assert trainer.state.global_step == -(-21 // size)
    return trainer


def _assert_whole(run: Any, trainer: Any) -> None:
    assert (run.run["status"], run.run.get("passes", 1)) == ("finished", 1)
    assert run.history("batch/loss") == logged(trainer, "loss")
    assert run.history("batch/samples")[-1] == (trainer.state.global_step, 21)
    assert (run.summary["final/samples"], run.summary["final/steps"]) == (21, trainer.state.global_step)
    assert run.config["data/batch_size_per_device"] == trainer.state.train_batch_size


@pytest.mark.parametrize("group", [None, "mine"])
def test_retry_with_another_batch_size_is_a_run_of_the_same_group(tmp_path: Path, group: str | None) -> None:
    """The first try has taken two steps: it ends `failed`, with its rows."""
    trainer = _hungry(tmp_path, 3, group=group)
    first, then = local_runs(tmp_path)
    assert (first.run["status"], first.run["exit_code"], first.summary["final/steps"]) == ("failed", 1, 2)
    assert [step for step, _ in first.history("batch/step")] == [1, 2]
    assert first.config["data/batch_size_per_device"] == 8
    _assert_whole(then, trainer)
    groups = [run.config["trackkit/settings/group"] for run in (first, then)]
    assert groups[0] == groups[1]
    assert groups[0] == group or (group is None and groups[0].startswith("batch-size-"))


def test_retry_before_the_first_step_begins_the_run_anew(tmp_path: Path) -> None:
    """One run, with the values of the second try only."""
    trainer = _hungry(tmp_path, 1)
    _assert_whole(local_run(tmp_path), trainer)


@pytest.mark.parametrize("same", [True, False])
def test_caught_exception_fails_its_run_and_not_the_next(tmp_path: Path, same: bool) -> None:
    """With one object for both trainings, and with two."""

    class Breaks(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            if self.state.global_step == 3:
                raise ValueError("broken data")
            return super().training_step(*args, **kwargs)

    kit = TrackKit()
    with pytest.raises(ValueError, match="broken data"):
        make_trainer(tmp_path / "a", [kit], kind=Breaks).train()
    make_trainer(tmp_path / "b", [kit if same else TrackKit()]).train()
    finish()
    broken, well = local_run(tmp_path / "a"), local_run(tmp_path / "b")
    assert (broken.run["status"], broken.run["exit_code"], broken.summary["final/steps"]) == ("failed", 1, 3)
    assert [step for step, _ in broken.history("batch/step")] == [1, 2, 3], "the last step has a row"
    assert (well.run["status"], well.run["exit_code"]) == ("finished", 0)
    assert [step for step, _ in well.history("batch/loss")] == [1, 2, 4, 6]
