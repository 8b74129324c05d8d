"""The run config: numbers stay numbers, and a part that fails costs neither the run nor the other parts."""

from __future__ import annotations

import json
import logging
from typing import Any

import lightning.pytorch as pl
import numpy
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from tests.support.failures import FRAMEWORKS, boom, errors, train
from tests.support.lightning_toys import BATCH_SIZE, Silent, data, record, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink
from trackkit.record.run_config import flatten, model_config, optimizer_config, plain, recorded


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (numpy.float32(0.5), 0.5),
        (numpy.float64(0.1), 0.1),
        (numpy.int64(3), 3),
        (numpy.bool_(True), True),
        (numpy.array(7), 7),
        (torch.tensor(2.5), 2.5),
        (torch.tensor(2**40), 2**40),
        (torch.tensor(False), False),
        ([numpy.int32(1), torch.tensor(2)], [1, 2]),
        (torch.tensor([1.5]), "tensor([1.5000])"),
        (numpy.datetime64("2026-01-02"), "2026-01-02"),
        (torch.tensor(1.0, device="meta"), "tensor(..., device='meta', size=())"),
    ],
    ids=repr,
)
def test_number_stays_a_number(value: Any, number: Any) -> None:
    class Given(Silent):
        def __init__(self, given: Any) -> None:
            super().__init__()
            self.save_hyperparameters()

    found = record(Given(value), data(2)).settings["hparams/given"]
    assert (found, type(found)) == (number, type(number))
    assert json.loads(json.dumps(found)) == number


def test_interpolation_in_a_list_is_resolved() -> None:
    config = OmegaConf.create({"size": 8, "sizes": ["${size}", [16, "${size}"]], "block": {"width": "${size}"}})
    assert plain(config) == {"size": 8, "sizes": [8, [16, 8]], "block": {"width": 8}}


def test_value_that_cannot_be_written_costs_only_itself() -> None:
    """Python writes integers of at most 4,300 digits, and W&B's Go reads 308."""
    loop: dict[str, Any] = {"lr": 0.1}
    loop["deep"] = {"deeper": {"own": loop}}
    given = {"big": 10**5000, "wide": -(10**309), "in": {"list": [10**5000]}, 10**5000: "key", "loop": loop, "lr": 0.1}
    flat = flatten("hparams", given)
    assert flat.pop("hparams/lr") == flat.pop("hparams/loop/lr") == 0.1
    assert flat.pop("hparams/<builtins.int>") == "key"
    assert flat == {
        "hparams/big": "<integer of 16610 bits>",
        "hparams/wide": "<integer of 1027 bits>",
        "hparams/in/list": ["<integer of 16610 bits>"],
        "hparams/loop/deep/deeper": "<builtins.dict>",
    }
    json.dumps(recorded(flat))


def test_parameters_of_the_trained_module_are_counted() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.Linear(10, 10, bias=False))
    model[0].requires_grad_(False)
    assert model_config(model) == {
        "model/class": "torch.nn.modules.container.Sequential",
        "model/total_params_M": 210 / 1e6,
        "model/trainable_params_M": 100 / 1e6,
    }


def test_optimizers_are_numbered_and_keep_the_first_rate() -> None:
    parameters = [torch.nn.Parameter(torch.ones(1))]
    adam, sgd = torch.optim.Adam(parameters, lr=torch.tensor(0.5)), torch.optim.SGD(parameters, lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
    sgd.step()
    scheduler.step()
    config = optimizer_config([adam, sgd], [scheduler])
    assert (config["optim/0/class"], config["optim/0/lr"], config["optim/0/betas"]) == ("Adam", 0.5, [0.9, 0.999])
    assert (config["optim/1/class"], config["optim/1/lr"], config["optim/scheduler"]) == ("SGD", 0.1, "ExponentialLR")


class Lazy(Silent):
    """A module without a size before its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer: Any = nn.Sequential(nn.LazyLinear(8), nn.LazyLinear(1))


@pytest.mark.parametrize("seen", [False, True], ids=["new", "sanity check"])
def test_lazy_module_is_counted_once_its_size_is_known(seen: bool) -> None:
    class Validated(Lazy):
        def validation_step(self, batch: Any, _: int) -> None:
            self.loss(batch)

    module, sink = Validated(), MemorySink()
    trainer(TrackKit(sinks=[sink]), log_every_n_steps=1).fit(module, data(3), data(1) if seen else None)
    assert sink.history("batch/loss") == [(s, pytest.approx(module.losses[s - 1], rel=1e-5)) for s in (1, 2, 3)]
    assert sink.columns["final/tracker_errors"] == 0
    counted = {name: sink.settings.get(f"model/{name}_params_M") for name in ("total", "trainable")}
    parameters = sum(each.numel() for each in module.parameters()) / 1e6 if seen else None
    assert counted == {"total": parameters, "trainable": parameters}
    assert sink.settings["model/class"].endswith("Validated")
    assert sink.settings["data/train_samples"] == 3 * BATCH_SIZE


PARTS = {
    "trackkit.record.run_config.model_config": ["model"],
    "trackkit.record.run_config.optimizer_config": ["optim"],
    "trackkit.record.run_config.data_config": ["data/train_samples", "data/b", "data/accumulation", "data/dataset"],
    "trackkit.record.run_config.fingerprint_config": ["data/fingerprint"],
    "trackkit.session.open.runtime_config": ["runtime", "seed/torch"],
    "trackkit.session.open.read_git": ["git"],
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("part", PARTS)
def test_failing_part_costs_only_itself(
    framework: str, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train(framework, TrackKit(sinks=[whole := MemorySink()]))
    caplog.clear()
    monkeypatch.setattr(part, boom)
    train(framework, TrackKit(sinks=[sink := MemorySink()]))
    (message,) = errors(caplog)
    assert message.endswith(" can't be recorded; training continues without it")
    assert sink.columns["final/tracker_errors"] == 1
    assert [row.step for row in sink.rows] == [row.step for row in whole.rows]
    lost = whole.settings.keys() - sink.settings.keys()
    assert all(key.startswith(tuple(PARTS[part])) for key in lost)
    assert lost or part == "trackkit.session.open.read_git", "the repository of the tests may be none"
    assert "runtime/precision" in sink.settings


class Odd:
    """A hyperparameter whose text raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Points(torch.utils.data.TensorDataset):
    """A data set whose attributes raise."""

    @property
    def _fingerprint(self) -> str:
        raise RuntimeError("private")


class Saving(pl.callbacks.Checkpoint):
    """Watches a metric without saying whether less is better."""

    monitor = "val_error"


def test_errors_of_the_users_objects_are_survived(caplog: pytest.LogCaptureFixture) -> None:
    class Given(Silent):
        def __init__(self, odd: Any, lr: float) -> None:
            super().__init__(lr)
            self.save_hyperparameters()

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_error", float(2 - self.current_epoch))

    loader: Any = torch.utils.data.DataLoader(Points(torch.ones(8, 4), torch.ones(8, 1)), 4)
    sink = MemorySink()
    fit = trainer([Saving(), TrackKit(sinks=[sink])], max_epochs=2, enable_checkpointing=True)
    fit.fit(Given(Odd(), 0.1), loader, data(1))
    assert sink.settings["hparams/lr"] == 0.1
    assert sink.settings["hparams/odd"].endswith("Odd>")
    lost = [record.getMessage().split(" can't")[0] for record in caplog.records if record.levelno == logging.ERROR]
    assert lost == ["the data's fingerprint"]
    assert sink.settings["data/train_samples"] == 8
    best = {key: value for key, value in sink.columns.items() if "best" in key}
    assert best == {"final/best/val/error": 1.0, "final/best/val/error_step": 4}
    assert sink.columns["final/tracker_errors"] == 1
