"""Hugging Face: batch rows carry the training's own numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer

from tests.support.huggingface_toys import logged, plain_loop, train
from tests.support.toy import Net, Points


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_loss_norm_and_rate_equal_those_of_a_plain_loop(tmp_path: Path, accumulation: int, clip: float) -> None:
    """Loss is the mean since the last row, the norm is before clipping, the rate is that of the step taken."""
    sink, trainer = train(
        tmp_path,
        samples=30,
        num_train_epochs=3,
        gradient_accumulation_steps=accumulation,
        max_grad_norm=clip,
        logging_steps=2,
    )
    steps, _ = plain_loop(30, accumulation, epochs=3, clip=clip)
    rows = sorted({1, len(steps), *range(2, len(steps) + 1, 2)})
    assert [step for step, _ in sink.history("batch/step")] == rows
    assert any(step.norm > 0.06 for step in steps), "the clip must bite, or the test shows nothing"
    since = [0, *rows]
    means = [sum(each.loss for each in steps[a:b]) / (b - a) for a, b in zip(since, rows, strict=False)]
    assert [value for _, value in sink.history("batch/loss")] == pytest.approx(means, rel=1e-5)
    norms, rates = [steps[row - 1].norm for row in rows], [steps[row - 1].lr for row in rows]
    assert [value for _, value in sink.history("batch/grad_norm")] == pytest.approx(norms, rel=1e-5)
    assert [value for _, value in sink.history("batch/lr")] == pytest.approx(rates, rel=1e-9)
    seen = [sum(each.samples for each in steps[:row]) for row in rows]
    assert [value for _, value in sink.history("batch/samples")] == seen
    assert sink.columns["final/samples"] == seen[-1] == 90
    assert sink.history("batch/iter_num") == [(row, len(steps)) for row in rows]
    per_epoch = len(steps) / 3
    whole = [value for step, value in sink.history("batch/epoch") if step % per_epoch == 0]
    assert whole == [step / per_epoch for step in rows if step % per_epoch == 0]
    for key, name in {"batch/loss": "loss", "batch/grad_norm": "grad_norm", "batch/lr": "learning_rate"}.items():
        assert sink.history(key) == logged(trainer, name)
    assert sink.history("batch/epoch") == [each for each in logged(trainer, "epoch") if each[0] in rows][: len(rows)]


@pytest.mark.parametrize("given", [{"logging_steps": 500}, {"logging_strategy": "no"}])
def test_first_and_last_step_make_a_row_however_rarely_the_trainer_logs(tmp_path: Path, given: dict[str, Any]) -> None:
    """With what TrackKit measures; loss and norm only where the trainer logs them, such as at the first step."""
    sink, trainer = train(tmp_path, **given)
    steps, _ = plain_loop()
    assert sink.history("batch/loss") == logged(trainer, "loss") == [(1, pytest.approx(steps[0].loss, rel=1e-5))]
    assert sink.history("batch/grad_norm") == logged(trainer, "grad_norm")
    assert sink.history("batch/lr") == [(row, pytest.approx(steps[row - 1].lr)) for row in (1, 6)]
    for key in ("batch/step_time_s", "batch/samples_per_s", "batch/samples", "batch/data_time_s"):
        assert [step for step, _ in sink.history(key)] == [1, 6], key


def test_rows_logged_at_an_epoch_end_are_complete(tmp_path: Path) -> None:
    """`logging_strategy="epoch"` logs after the step has ended; the rows lack nothing."""
    sink, trainer = train(tmp_path, logging_strategy="epoch", num_train_epochs=3)
    assert [step for step, _ in sink.history("batch/step")] == [1, 6, 12, 18]
    assert sink.history("batch/samples") == [(1, 4), (6, 24), (12, 48), (18, 72)]
    assert sink.history("batch/loss") == logged(trainer, "loss")
    assert [step for step, _ in sink.history("batch/step_time_s")] == [1, 6, 12, 18]
    assert dict(sink.history("batch/iter_num")) == dict.fromkeys([1, 6, 12, 18], 18)


def test_tokens_are_those_counted_by_the_trainer(tmp_path: Path) -> None:
    """`include_num_input_tokens_seen`: records the count, and does not record its speeds as metrics."""

    class Texts(Dataset[dict[str, torch.Tensor]]):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            ids = torch.arange(index, index + 8) % 32
            return {"input_ids": ids, "labels": ids}

    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    sink, trainer = train(
        tmp_path, kind=Trainer, model=model, train=Texts(), val=Texts(), eval_strategy="epoch",
        include_num_input_tokens_seen="all", optim="adamw_torch",
    )  # fmt: skip
    assert sink.history("batch/tokens") == [(1, 32), (2, 64), (3, 80)]
    assert sink.history("batch/samples") == [(1, 4), (2, 8), (3, 10)]
    assert sink.columns["final/tokens"] == 80
    assert sink.history("batch/loss") == logged(trainer, "loss")
    for speed, amount in (("tokens", 16), ("samples", 2)):
        rate, spent = sink.history(f"batch/{speed}_per_s")[-1][1], sink.history("batch/step_time_s")[-1][1]
        assert rate == pytest.approx(amount / spent, rel=1e-6)
    keys = {key for row in sink.rows for key in row.values}
    assert not any("runtime" in key or "input_tokens" in key for key in keys)


def test_data_time_holds_the_waiting_and_no_evaluation(tmp_path: Path) -> None:
    """A data set that sleeps: the time is in `data_time_s`; evaluation is in neither time."""

    class Slow(Points):
        def __init__(self, sleep_s: float, samples: int) -> None:
            super().__init__(samples=samples)
            self.sleep_s, self.slept_s = sleep_s, 0.0

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            before = time.perf_counter()
            time.sleep(self.sleep_s)
            self.slept_s += time.perf_counter() - before
            return super().__getitem__(index)

    data, val, before = Slow(0.01, 24), Slow(0.1, 4), time.perf_counter()
    sink, _ = train(tmp_path, train=data, val=val, eval_strategy="steps", eval_steps=2, logging_steps=2)
    elapsed = time.perf_counter() - before
    rows = [step for step, _ in sink.history("batch/step")]
    assert rows == [1, 2, 4, 6]
    waits, spent = (dict(sink.history(f"batch/{name}")) for name in ("data_time_s", "step_time_s"))
    # Accelerate fetches one batch ahead, so the first step waits for two and the last for none: the sum is certain.
    waited, trained = (
        sum(times[row] * (row - last) for row, last in zip(rows, [0, *rows], strict=False)) for times in (waits, spent)
    )
    assert data.slept_s >= 0.24
    assert val.slept_s >= 1.2
    assert data.slept_s <= waited <= trained <= elapsed - val.slept_s
    assert all(waits[row] <= spent[row] for row in rows)
    assert len(sink.history("epoch/val/loss")) == 3


def test_nan_that_the_trainer_filters_from_its_loss_is_counted(tmp_path: Path) -> None:
    """Hugging Face replaces a NaN loss by a mean: the loss is finite, and `batch/nonfinite` is 1."""

    class Breaks(Net):
        calls = 0

        def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            self.calls += 1
            out = super().forward(features, labels)
            if self.calls == 3:
                # Its gradient is NaN too, like that of a real overflow.
                out["loss"] = out["loss"] + nn.functional.relu(out["logits"] * float("inf")).sum() * 0
            return out

    sink, trainer = train(tmp_path, model=Breaks(), logging_steps=1)
    assert all(value == value for _, value in sink.history("batch/loss")), "the filter is on"
    assert [value for _, value in sink.history("batch/nonfinite")][:3] == [0, 0, 1]
    bad = [step for step, value in logged(trainer, "grad_norm") if value != value]
    assert bad[0] == 3
    assert sink.columns["final/nonfinite"] == len(bad)


def test_stream_without_length_runs_to_max_steps(tmp_path: Path) -> None:
    """Progress comes from `max_steps`. Samples end with the first epoch, whose last batch has an unknown size."""

    class Stream(IterableDataset[dict[str, torch.Tensor]]):
        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            points = Points(samples=20)
            return (points[index] for index in range(20))

    sink, trainer = train(tmp_path, kind=Trainer, train=Stream(), max_steps=7, logging_steps=3)
    assert [step for step, _ in sink.history("batch/step")] == [1, 3, 6, 7]
    assert sink.history("batch/loss") == logged(trainer, "loss")
    assert sink.history("batch/samples") == [(1, 4), (3, 12)], "the sixth step is in the second epoch"
    assert "final/samples" not in sink.columns
    assert [step for step, _ in sink.history("batch/samples_per_s")] == [1, 3]
    assert sink.history("batch/iter_num")[-1] == (7, 7)
    assert (sink.columns["final/status"], sink.columns["final/steps"]) == ("finished", 7)


def test_final_log_goes_to_the_summary_and_not_to_history(tmp_path: Path) -> None:
    """`train_loss` and `total_flos` become summary columns."""
    sink, trainer = train(tmp_path)
    last = trainer.state.log_history[-1]
    steps, _ = plain_loop()
    assert sink.columns["final/train/loss"] == last["train_loss"]
    assert last["train_loss"] == pytest.approx(sum(step.loss for step in steps) / 6, rel=1e-5)
    assert sink.columns["final/total_flos"] == last["total_flos"]
    names = {key.rsplit("/", 1)[-1] for row in sink.rows for key in row.values}
    assert names.isdisjoint({"train_loss", "total_flos", "train_runtime", "runtime", "samples_per_second"})
    assert max(row.step for row in sink.rows) == 6
    assert len([row for row in sink.rows if row.step == 6]) == 1
