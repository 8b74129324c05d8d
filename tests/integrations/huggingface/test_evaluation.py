"""Hugging Face: evaluations and predictions are reported once each, under the right keys, at the right steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from tests.support.huggingface_toys import (
    Sequential,
    evaluate_plainly,
    logged,
    make_trainer,
    mean_accuracy,
    plain_loop,
    train,
)
from tests.support.local_log import local_run
from tests.support.toy import Net, Points
from tests.support.versions import EVALUATES_LAST_STEP
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

VAL = Points(5, 12)
OTHER = Points(6, 8)
SPEED = ("runtime", "per_second", "preparation_time")


def _epoch_keys(sink: MemorySink) -> set[str]:
    return {key for row in sink.rows if row.tier == "epoch" for key in row.values}


def _no_speed(sink: MemorySink) -> bool:
    return not any(speed in key for row in sink.rows for key in row.values for speed in SPEED)


def _without_axis(sink: MemorySink) -> list[dict[str, float]]:
    return [
        {key: value for key, value in row.values.items() if key not in ("epoch/step", "epoch/epoch")}
        for row in sink.rows
        if row.tier == "epoch"
    ]


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"eval_strategy": "epoch", "num_train_epochs": 2}, [6, 12]),
        ({"eval_strategy": "steps", "eval_steps": 4, "num_train_epochs": 2}, [4, 8, 12]),
        pytest.param(
            {"eval_strategy": "steps", "eval_steps": 4},
            [4, 6],
            marks=pytest.mark.skipif(not EVALUATES_LAST_STEP, reason="the last step is not evaluated"),
        ),
        ({"eval_strategy": "epoch", "eval_on_start": True}, [0, 6]),
    ],
)
def test_evaluation_makes_one_row_at_its_step(tmp_path: Path, given: dict[str, Any], steps: list[int]) -> None:
    """It holds the loss and `compute_metrics` with the trainer's own values, and no speeds."""
    sink, trainer = train(tmp_path, val=VAL, metrics=mean_accuracy, **given)
    assert sink.history("epoch/val/loss") == logged(trainer, "eval_loss")
    assert sink.history("epoch/val/acc") == logged(trainer, "eval_acc")
    assert [row.step for row in sink.rows if row.tier == "epoch"] == steps
    assert sink.history("epoch/step") == [(step, step) for step in steps]
    assert sink.history("epoch/epoch") == [(step, pytest.approx(step / 6)) for step in steps]
    assert _epoch_keys(sink) == {"epoch/step", "epoch/epoch", "epoch/val/loss", "epoch/val/acc"}
    loss, acc = evaluate_plainly(plain_loop(epochs=given.get("num_train_epochs", 1))[1], VAL)
    assert sink.history("epoch/val/loss")[-1][1] == pytest.approx(loss, rel=1e-5)
    assert sink.history("epoch/val/acc")[-1][1] == sink.columns["final/val/acc"] == pytest.approx(acc)


def test_several_sets_have_keys_of_their_own(tmp_path: Path) -> None:
    """A dict of data sets: `epoch/val/<set>/<name>`, with the values of a plain loop."""
    sets = {"near": VAL, "far_away": OTHER}
    sink, _ = train(tmp_path, val=sets, metrics=mean_accuracy, eval_strategy="epoch", num_train_epochs=2)
    net = plain_loop(epochs=2)[1]
    for name, data in sets.items():
        loss, acc = evaluate_plainly(net, data)
        found = sink.history(f"epoch/val/{name}/loss")
        assert [step for step, _ in found] == [6, 12]
        assert found[-1][1] == pytest.approx(loss, rel=1e-5)
        assert sink.history(f"epoch/val/{name}/acc")[-1][1] == pytest.approx(acc)
        assert sink.columns[f"final/val/{name}/loss"] == found[-1][1]
    keys = {f"epoch/val/{name}/{metric}" for name in sets for metric in ("loss", "acc")}
    assert _epoch_keys(sink) == keys | {"epoch/step", "epoch/epoch"}


def test_evaluate_alone_makes_a_run(tmp_path: Path) -> None:
    """Without a training: one row at step 0, status `finished`, no batch rows."""
    sink, net = MemorySink(), Net()
    metrics = make_trainer(tmp_path, [TrackKit(sinks=[sink])], model=net, val=VAL, metrics=mean_accuracy).evaluate()
    loss, acc = evaluate_plainly(net, VAL)
    assert _without_axis(sink) == [{"epoch/val/loss": metrics["eval_loss"], "epoch/val/acc": metrics["eval_acc"]}]
    assert (metrics["eval_loss"], metrics["eval_acc"]) == (pytest.approx(loss, rel=1e-5), pytest.approx(acc))
    assert [(row.tier, row.step) for row in sink.rows] == [("epoch", 0)]
    assert sink.columns["final/status"] == "finished"
    assert sink.columns["final/val/acc"] == metrics["eval_acc"]
    assert local_run(tmp_path).run["status"] == "finished"


def test_evaluations_before_and_after_a_training_are_in_its_run(tmp_path: Path) -> None:
    """One run with rows at step 0, during the training, and at the last step; the last one is in the summary."""
    sink = MemorySink()
    trainer = make_trainer(tmp_path, [TrackKit(sinks=[sink])], val=VAL, eval_strategy="steps", eval_steps=4)
    trainer.evaluate()
    trainer.train()
    trainer.model.layers[0].weight.data.zero_()  # type: ignore[union-attr, operator, index]
    after = trainer.evaluate()
    during = [4, 6] if EVALUATES_LAST_STEP else [4]
    assert [step for step, _ in sink.history("epoch/val/loss")] == [0, *during, 6]
    assert sink.history("epoch/val/loss")[-1] == (6, after["eval_loss"])
    assert sink.history("epoch/val/loss")[-1][1] != sink.history("epoch/val/loss")[-2][1]
    assert sink.columns["final/val/loss"] == after["eval_loss"]
    assert sink.columns["final/status"] == "finished"
    assert [step for step, _ in sink.history("batch/loss")] == [1, 2, 4, 6]
    assert len(local_run(tmp_path).rows) == len(sink.rows)


@pytest.mark.parametrize(
    ("prefix", "place"),
    [("test", "test"), ("test_far", "test/far"), ("holdout", "val/holdout"), ("train", "train"), ("eval_b", "val/b")],
)
def test_metric_key_prefix_names_the_split_or_the_set(tmp_path: Path, prefix: str, place: str) -> None:
    """`evaluate(metric_key_prefix=...)`, after a training."""
    sink = MemorySink()
    trainer = make_trainer(tmp_path, [TrackKit(sinks=[sink])], val=VAL, metrics=mean_accuracy)
    trainer.train()
    metrics = trainer.evaluate(metric_key_prefix=prefix)
    wanted = {f"epoch/{place}/{name}": metrics[f"{prefix}_{name}"] for name in ("loss", "acc")}
    assert _without_axis(sink) == [wanted]
    assert sink.rows[-1].step == 6
    assert sink.columns[f"final/{place}/acc"] == metrics[f"{prefix}_acc"]
    assert len([row for row in sink.rows if row.tier == "batch"]) == 4
    assert _no_speed(sink)


@pytest.mark.parametrize("monitor", ["eval_sts-dev_pearson", "sts-dev_pearson"])
def test_metric_of_no_set_is_not_filed_under_one(tmp_path: Path, monitor: str) -> None:
    """As sentence-transformers' evaluators: logged with the first set's metrics, and monitored."""

    class Evaluating(Sequential):
        def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
            output = super().evaluation_loop(*args, **kwargs)
            if kwargs["metric_key_prefix"] == "eval_near" and output.metrics is not None:
                output.metrics["eval_sts-dev_pearson"] = output.metrics["eval_near_loss"] / 2
            return output

    sets = {"near": VAL, "far": OTHER}
    sink, trainer = train(
        tmp_path, kind=Evaluating, val=sets, eval_strategy="epoch", num_train_epochs=3, learning_rate=3.0,
        metric_for_best_model=monitor, greater_is_better=False, save_strategy="epoch", save_only_model=True,
    )  # fmt: skip
    assert sink.history("epoch/val/sts_dev_pearson") == logged(trainer, "eval_sts-dev_pearson") != []
    keys = {"epoch/val/sts_dev_pearson", "epoch/val/near/loss", "epoch/val/far/loss"}
    assert _epoch_keys(sink) == keys | {"epoch/step", "epoch/epoch"}
    assert len([row for row in sink.rows if row.tier == "epoch"]) == 6
    best = {key: value for key, value in sink.columns.items() if key.startswith("final/best/val/sts")}
    assert best == {
        "final/best/val/sts_dev_pearson": trainer.state.best_metric,
        "final/best/val/sts_dev_pearson_step": trainer.state.best_global_step,
    }


@pytest.mark.parametrize("given", [{}, {"include_num_input_tokens_seen": "all"}], ids=str)
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_evaluation_of_the_training_set_is_of_the_split_train(tmp_path: Path, when: str, given: dict[str, Any]) -> None:
    """`evaluate(metric_key_prefix="train")`, also by a callback; the mean loss of the training stays its own."""

    class Asks(TrainerCallback):
        def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
            if when == "during":
                trainer.evaluate(VAL, metric_key_prefix="train")  # type: ignore[arg-type]

    sink = MemorySink()
    trainer = make_trainer(tmp_path, [Asks(), TrackKit(sinks=[sink])], metrics=mean_accuracy, **given)
    if when == "before":
        trainer.evaluate(VAL, metric_key_prefix="train")  # type: ignore[arg-type]
    trainer.train()
    if when == "after":
        trainer.evaluate(VAL, metric_key_prefix="train")  # type: ignore[arg-type]
    found = [entry for entry in trainer.state.log_history if "train_acc" in entry]
    step = 0 if when == "before" else 6
    if when != "before":
        # `train` starts a new log history.
        assert sink.history("epoch/train/acc") == [(step, found[0]["train_acc"])]
    assert [at for at, _ in sink.history("epoch/train/loss")] == [step]
    # Before the first step, older Trainers know no epoch.
    known = when != "before" or TrainerState().epoch is not None
    axes = {"epoch/step", "epoch/epoch"} if known else {"epoch/step"}
    assert _epoch_keys(sink) == axes | {"epoch/train/loss", "epoch/train/acc"}


def test_runtime_and_speeds_are_in_the_summary(tmp_path: Path) -> None:
    """Of the training and of the last evaluation of each set, where WandbCallback has them."""
    sink, trainer = train(tmp_path, val={"a": VAL, "b/c": OTHER}, eval_strategy="epoch", num_train_epochs=2)
    last = trainer.state.log_history[-1]
    names = {"runtime": "runtime_s", "samples_per_second": "samples_per_s", "steps_per_second": "steps_per_s"}
    for name, key in names.items():
        assert sink.columns[f"final/train/{key}"] == last[f"train_{name}"]
        assert sink.columns[f"final/val/a/{key}"] == logged(trainer, f"eval_a_{name}")[-1][1]
        assert sink.columns[f"final/val/b_c/{key}"] == logged(trainer, f"eval_b/c_{name}")[-1][1]


def test_predict_is_a_test_with_labels_and_makes_no_row_without(tmp_path: Path) -> None:
    """`predict` fires no `on_log`; its metrics come with `on_predict`."""

    class Blind(Net):
        def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
            return {"logits": self.layers(features)} if labels is None else super().forward(features, labels)

    sink = MemorySink()
    trainer = make_trainer(tmp_path, [TrackKit(sinks=[sink])], model=Blind(), metrics=mean_accuracy)
    unlabelled: Any = [{"features": VAL.features[index]} for index in range(12)]
    trainer.predict(unlabelled)
    assert sink.rows == []
    assert sink.info is None, "no run without metrics"
    trainer.train()
    metrics = trainer.predict(VAL).metrics or {}
    assert _without_axis(sink) == [{"epoch/test/loss": metrics["test_loss"], "epoch/test/acc": metrics["test_acc"]}]
    assert sink.columns["final/test/acc"] == metrics["test_acc"] == evaluate_plainly(trainer.model, VAL)[1]  # type: ignore[arg-type]
    rows = len(sink.rows)
    trainer.predict(unlabelled)
    assert len(sink.rows) == rows
    assert sink.rows[-1].step == 6


def test_user_metric_named_like_a_speed_is_kept(tmp_path: Path) -> None:
    """`compute_metrics` and the training's log may hold names that end in `_runtime`."""

    def timed(prediction: Any) -> dict[str, float]:
        return {"generation_runtime": 2.5, **mean_accuracy(prediction)}

    sink = MemorySink()
    trainer = make_trainer(tmp_path, [TrackKit(sinks=[sink])], val=VAL, metrics=timed, eval_strategy="epoch")
    trainer.train()
    trainer.log({"rollout_runtime": 1.5})
    assert sink.history("epoch/val/generation_runtime") == [(6, 2.5)]
    assert sink.history("epoch/val/acc") == logged(trainer, "eval_acc")
    # The row stays open for more values of its step until the evaluation seals it.
    trainer.evaluate()
    assert sink.history("batch/rollout_runtime") == [(6, 1.5)]


def test_user_metrics_with_runtime_and_speed_are_no_evaluation_set(tmp_path: Path) -> None:
    """`compute_metrics` returns a runtime and a speed, beside those that the trainer adds."""

    def timed(prediction: Any) -> dict[str, float]:
        return {**mean_accuracy(prediction), "inference_runtime": 1.5, "inference_samples_per_second": 7.0}

    sink, trainer = train(tmp_path, val={"a": VAL, "b": OTHER}, metrics=timed, eval_strategy="epoch")
    names = ("loss", "acc", "inference_runtime", "inference_samples_per_second")
    for name in "ab":
        for metric in names:
            assert sink.history(f"epoch/val/{name}/{metric}") == logged(trainer, f"eval_{name}_{metric}") != []
    keys = {f"epoch/val/{name}/{metric}" for name in "ab" for metric in names}
    assert _epoch_keys(sink) == keys | {"epoch/step", "epoch/epoch"}


def test_set_names_become_valid_keys_and_stay_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keys hold letters, digits and `_`; two sets of one key get one notice and a key each."""
    names = {"sst-2": "sst_2", "MNLI (m)": "MNLI_m", "a/b": "a_b", "train": "train"}
    sets = {name: Points(5 + index, 8) for index, name in enumerate([*names, "a_b"])}
    sink, trainer = train(
        tmp_path, val=sets, metrics=mean_accuracy, eval_strategy="epoch", num_train_epochs=3, learning_rate=3.0,
        metric_for_best_model="eval_sst-2_loss", greater_is_better=False, save_strategy="epoch", save_only_model=True,
    )  # fmt: skip
    for name, segment in names.items():
        assert sink.history(f"epoch/val/{segment}/acc") == logged(trainer, f"eval_{name}_acc") != []
    apart = [key for key in _epoch_keys(sink) if re.fullmatch(r"epoch/val/a_b_[0-9a-f]{8}/acc", key)]
    assert sink.history(apart[0]) == logged(trainer, "eval_a_b_acc") != []
    assert all(re.fullmatch(r"[A-Za-z0-9_/]+", key) for key in _epoch_keys(sink))
    assert sum("'a/b' and 'a_b'" in line for line in caplog.messages) == 1
    assert sink.columns["final/best/val/sst_2/loss"] == trainer.state.best_metric
    assert sink.columns["final/best/val/sst_2/loss_step"] == trainer.state.best_global_step
