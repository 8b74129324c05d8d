"""Hugging Face: the training is the same with and without TrackKit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer, set_seed

from tests.support.huggingface_toys import Sequential, make_trainer, mean_accuracy, train
from tests.support.local_log import local_run
from tests.support.toy import Net, Points
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


class Noisy(Net):
    """Uses torch's, numpy's and Python's random states at every step."""

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.training:
            features = torch.nn.functional.dropout(features, 0.2) * (
                1 + 0.01 * random.random() + np.random.rand() / 100
            )
        return super().forward(features, labels)


def _train(out: Path, callbacks: list[Any], **given: Any) -> tuple[dict[str, torch.Tensor], tuple[Any, ...]]:
    set_seed(7)
    trainer = make_trainer(
        out, callbacks, kind=Trainer, model=Noisy(), samples=30, val=Points(5, 12), metrics=mean_accuracy,
        num_train_epochs=2, eval_strategy="epoch", optim="adamw_torch", learning_rate=0.01,
        lr_scheduler_type="cosine", warmup_steps=2, **given,
    )  # fmt: skip
    trainer.train()
    states = (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state(legacy=False)))
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}, states  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["offline", "disabled"])
@pytest.mark.parametrize("given", [{}, {"gradient_accumulation_steps": 4, "max_grad_norm": 0.05}])
def test_weights_and_random_states_are_bit_identical(tmp_path: Path, given: dict[str, Any], mode: str) -> None:
    """With clipping, accumulation, a scheduler, a shuffled data set and a model that draws random numbers."""
    bare, bare_states = _train(tmp_path / "bare", [], **given)
    tracked, states = _train(tmp_path / "tracked", [TrackKit(mode=mode)], **given)
    assert all(torch.equal(bare[name], tracked[name]) for name in bare)
    assert not torch.equal(bare["layers.0.weight"], Net().layers[0].weight), "the model must have learned"
    assert states == bare_states


@pytest.mark.parametrize(
    "given",
    [
        {"logging_steps": 500},
        {"logging_steps": 5, "num_train_epochs": 3},
        {"logging_steps": 5, "logging_first_step": True, "gradient_accumulation_steps": 4, "num_train_epochs": 3},
        {"logging_strategy": "no", "max_steps": 7},
        {"logging_strategy": "epoch", "num_train_epochs": 3, "eval_strategy": "steps", "eval_steps": 2},
        {"logging_steps": 500, "eval_strategy": "epoch", "num_train_epochs": 9, "stops": True},
        {"logging_steps": 4, "eval_strategy": "steps", "eval_steps": 3, "num_train_epochs": 9, "stops": True},
    ],
)
def test_trainer_logs_what_it_logs_without(tmp_path: Path, given: dict[str, Any]) -> None:
    """Equal `log_history`, for steps that log rarely, epochs, accumulation and early stopping."""
    stops = given.get("stops", False)
    more = {**{name: value for name, value in given.items() if name != "stops"}}
    more |= {"metric_for_best_model": "loss", "learning_rate": 0.0} if stops else {}
    histories = []
    for name, kits in (("bare", []), ("tracked", [TrackKit(sinks=[MemorySink()])])):
        callbacks = [*kits, EarlyStoppingCallback(2)] if stops else kits
        trainer = make_trainer(tmp_path / name, callbacks, val=Points(5, 12), **{"logging_first_step": False, **more})
        trainer.train()
        histories.append([_without_times(entry) for entry in trainer.state.log_history])
    assert histories[0] == histories[1]


def _without_times(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if not name.endswith(("_runtime", "_per_second"))}


def test_trainer_whose_log_takes_one_argument_is_recorded(tmp_path: Path) -> None:
    """It can't log steps, with or without TrackKit; nothing asks it to."""

    class Short(Sequential):
        def log(self, logs: dict[str, Any]) -> None:  # type: ignore[override]
            super().log(logs)

    sink, _ = train(tmp_path, kind=Short, logging_steps=500, logging_first_step=False)
    assert [row.step for row in sink.rows] == [1, 6]
    assert sink.columns["final/status"] == "finished"


def test_disabled_mode_records_nothing_and_writes_no_file(tmp_path: Path) -> None:
    """`mode: disabled` opens no run."""
    import trackkit

    _train(tmp_path / "out", [TrackKit(mode="disabled")])
    assert trackkit.run is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_failing_hook_is_logged_once_and_leaves_the_weights_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of the 16 steps fails within TrackKit: one traceback, 16 errors counted, the same weights."""

    class Odd(TrackKit):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            super().on_train_begin(*args, **kwargs)
            self._huggingface_fit.step_ends = None  # type: ignore[method-assign,assignment]

    bare, states = _train(tmp_path / "bare", [])
    tracked, tracked_states = _train(tmp_path / "tracked", [Odd()])
    assert all(torch.equal(bare[name], tracked[name]) for name in bare)
    assert states == tracked_states
    errors = [record for record in caplog.records if record.name == "trackkit" and record.levelname == "ERROR"]
    assert [record.getMessage().split()[1] for record in errors] == ["on_step_end"]
    assert errors[0].exc_info is not None
    assert local_run(tmp_path / "tracked").summary["final/tracker_errors"] == 16
