"""Each callback alone: a real torch optimizer, a tracker, and a memory sink."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.callback_bench import Bench, announced
from tests.support.fake_clock import FakeClock
from trackkit.callbacks import CALLBACKS, build_callbacks
from trackkit.callbacks.grad_norm import GradNorm
from trackkit.callbacks.loss import Loss
from trackkit.callbacks.lr import LearningRate
from trackkit.callbacks.nonfinite import NonFinite
from trackkit.callbacks.throughput import Throughput
from trackkit.engine.ranks import SHARDS
from trackkit.engine.records import Gradients, Moment
from trackkit.engine.window import Window
from trackkit.schema.keys import describe


def optimizer(*groups: dict[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], **group} for group in groups], lr=0.1)


# -- loss --------------------------------------------------------------------------------------------------------------


def test_loss_is_the_mean_over_steps_of_their_means() -> None:
    bench = Bench(Loss())
    bench.step(1.0, 2.0, 6.0, row=False)
    assert bench.step(7.0)["batch/loss"] == 5.0
    assert bench.step(2.0, 4.0)["batch/loss"] == 3.0


def test_loss_of_a_step_is_the_mean_over_its_micro_batches() -> None:
    window = Window()
    window.add(torch.tensor(1.0), 0, 0, 0.0, 0)
    window.add(torch.tensor(3.0), 0, 0, 0.0, 1)
    window.add(torch.tensor(5.0), 0, 0, 0.0, 1)
    assert [loss.item() for loss in window.losses] == [2.0, 5.0]


def test_row_has_no_loss_if_none_was_given() -> None:
    bench = Bench(Loss(), NonFinite())
    assert "batch/loss" not in bench.step()


# -- learning rate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "rates"),
    [
        ([{}], {"": 0.1}),
        ([{}, {}], {"": 0.1}),
        ([{}, {"lr": 0.5}], {"": 0.1, "/group_0": 0.1, "/group_1": 0.5}),
        ([{"name": "body"}, {"name": "the head!"}], {"": 0.1, "/body": 0.1, "/the_head": 0.1}),
        ([{"name": "body"}, {}], {"": 0.1, "/body": 0.1, "/group_1": 0.1}),
        ([{"name": "x", "lr": 0.2}], {"": 0.2, "/x": 0.2}),
        ([{"name": "x"}, {"name": "x", "lr": 0.2}], {"": 0.1, "/x_0": 0.1, "/x_1": 0.2}),
    ],
)
def test_groups_have_own_rates_if_named_or_different(groups: list[dict[str, Any]], rates: dict[str, float]) -> None:
    found = announced(LearningRate(), optimizer(*groups))
    assert found == {f"batch/lr{name}": rate for name, rate in rates.items()}


def test_groups_that_once_differed_keep_own_rates() -> None:
    callback, opt = LearningRate(), optimizer({}, {})
    assert set(announced(callback, opt)) == {"batch/lr"}
    opt.param_groups[1]["lr"] = 0.5
    assert len(announced(callback, opt)) == 3
    opt.param_groups[1]["lr"] = 0.1
    assert len(announced(callback, opt)) == 3


def test_several_optimizers_have_own_rates() -> None:
    bench = Bench(LearningRate())
    bench.tracker.gradients(Gradients(optimizer({"lr": 0.3}), name="G"))
    bench.tracker.gradients(Gradients(optimizer({"lr": 0.4}, {"lr": 0.5}), name="D"))
    rates = {key: value for key, value in bench.step(0.0).items() if key.startswith("batch/lr")}
    assert rates == {
        "batch/lr/G": 0.3,
        "batch/lr/D": 0.4,
        "batch/lr/D/group_0": 0.4,
        "batch/lr/D/group_1": 0.5,
        "batch/lr": 0.4,
    }


def test_tensor_rate_is_copied_and_not_read() -> None:
    rate = torch.tensor(0.25)
    opt = torch.optim.Adam([nn.Parameter(torch.ones(1))], lr=rate)
    callback = LearningRate()
    callback.gradients(Gradients(opt))
    rate.mul_(2)
    kept = callback.row(Moment(step=1), Window())["batch/lr"]
    assert isinstance(kept, torch.Tensor)
    assert kept.item() == 0.25


@pytest.mark.parametrize("callback", [LearningRate(), GradNorm()])
def test_values_of_a_step_without_a_row_are_dropped(callback: Any) -> None:
    bench, opt = Bench(callback), optimizer({})
    opt.param_groups[0]["params"][0].grad = torch.ones(1)
    bench.tracker.gradients(Gradients(opt))
    bench.step(0.0, row=False)
    assert set(bench.step(0.0)) <= {"batch/step"}


# -- time and throughput -----------------------------------------------------------------------------------------------


def test_time_and_throughput_exclude_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch)
    bench = Bench(Throughput(flops_per_sample=50.0, peak_flops=1000.0), world_size=2, samples=100)
    clock.advance(1.0)
    bench.step(0.0, row=False, samples=8, tokens=80, data_s=0.25)
    bench.tracker.pause("evaluation", 6.0)
    clock.advance(9.0)
    values = bench.step(0.0, samples=8, tokens=80, data_s=0.75)
    assert {key: pytest.approx(value) for key, value in values.items()} == {
        "batch/step": 2,
        "batch/step_time_s": 2.0,
        "batch/data_time_s": 0.5,
        "batch/samples": 116,
        "batch/samples_per_s": 4.0,
        "batch/mfu": 50.0 * 4.0 / (1000.0 * 2),
        "batch/tokens": 160,
        "batch/tokens_per_s": 40.0,
    }
    clock.advance(2.0)
    after = bench.step(0.0, samples=8)
    assert (after["batch/step_time_s"], after["batch/samples_per_s"], after["batch/tokens_per_s"]) == (2.0, 4.0, 0.0)
    assert (bench.columns()["final/samples"], bench.sink.columns["final/tokens"]) == (124, 160)


def test_unknown_counts_have_no_key() -> None:
    bench = Bench(Throughput(flops_per_sample=1.0))
    assert set(bench.step(0.0)) == {"batch/step", "batch/step_time_s", "batch/data_time_s"}
    assert {"final/samples", "final/tokens"}.isdisjoint(bench.columns())


# -- NaN and Inf -------------------------------------------------------------------------------------------------------


def test_nonfinite_losses_are_counted_at_every_step() -> None:
    bench = Bench(Loss(), NonFinite())
    assert bench.step(1.0)["batch/nonfinite"] == 0
    bench.step(math.nan, row=False)
    bench.step(1.0, math.inf, row=False)
    bench.step(2.0, row=False)
    last = bench.step(3.0)
    assert (last["batch/nonfinite"], set(last)) == (2, {"batch/step", "batch/loss", *KEPT})
    assert bench.step(1.0)["batch/nonfinite"] == 0
    assert bench.columns()["final/nonfinite"] == 2
    (warning,) = bench.tracker.warnings()
    assert warning == "Loss or gradient norm was NaN or Inf in 2 steps, first seen at step 2: see batch/nonfinite"


KEPT = ("batch/nonfinite", "batch/skipped_steps")


@pytest.mark.parametrize(("loss", "grad", "count"), [(1.0, math.nan, 1), (math.nan, math.nan, 1), (math.nan, 1.0, 1)])
def test_step_with_nonfinite_loss_and_norm_counts_once(loss: float, grad: float, count: int) -> None:
    bench, opt = Bench(Loss(), GradNorm(), NonFinite()), optimizer({})
    opt.param_groups[0]["params"][0].grad = torch.tensor([grad])
    bench.tracker.gradients(Gradients(opt))
    assert bench.step(loss)["batch/nonfinite"] == count


@pytest.mark.parametrize("flags", [[True, False, True], [torch.tensor(1.0), torch.tensor(0.0), torch.tensor(1.0)]])
def test_steps_skipped_by_the_scaler_are_counted(flags: list[Any]) -> None:
    bench = Bench(NonFinite())
    for flag in flags[:-1]:
        bench.step(0.0, row=False, skipped=flag)
    assert bench.step(0.0, skipped=flags[-1])["batch/skipped_steps"] == 2
    assert bench.columns()["final/skipped_steps"] == 2


# -- all ---------------------------------------------------------------------------------------------------------------


def test_each_callback_can_be_disabled() -> None:
    for name, kind in CALLBACKS.items():
        assert kind not in {type(each) for each in build_callbacks({name: False})}
    assert [type(each) for each in build_callbacks({})] == list(CALLBACKS.values())


def test_keys_combined_over_ranks_are_in_the_vocabulary() -> None:
    keys = [key for kind in CALLBACKS.values() for key in kind.REDUCE if key != SHARDS]
    assert keys
    # A key that ends with a slash stands for all below it.
    found = [describe(f"{key}x" if key[-1] == "/" else key).name for key in keys]  # type: ignore[union-attr]
    assert found == [f"{key}<name>" if key[-1] == "/" else key for key in keys]
