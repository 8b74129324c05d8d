"""Hugging Face: the private names of transformers and accelerate that TrackKit reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from tests.support.huggingface_toys import logged, train
from tests.support.toy import Net, Points
from trackkit.integrations.huggingface import _compat


def test_installed_versions_have_every_private_name() -> None:
    assert _compat.missing() == []


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("transformers.trainer_callback.CallbackHandler.call_event", "CallbackHandler.call_event"),
        ("transformers.integrations.integration_utils.INTEGRATION_TO_CALLBACK", "INTEGRATION_TO_CALLBACK"),
        ("accelerate.optimizer.AcceleratedOptimizer.step_was_skipped", "AcceleratedOptimizer.step_was_skipped"),
        ("accelerate.data_loader.DataLoaderDispatcher", "DataLoaderDispatcher.split_batches"),
    ],
)
def test_removed_name_is_reported(target: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(target)
    assert [each.partition(":")[2] for each in _compat.missing()] == [name]


def test_calling_handler_is_the_trainer_s_own_within_a_hook_and_none_outside(tmp_path: Path) -> None:
    handlers: list[Any] = []

    class Asks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            handlers.append(_compat.calling_handler())

    _, trainer = train(tmp_path, before=[Asks()], max_steps=1)
    assert handlers == [trainer.callback_handler]
    assert _compat.calling_handler() is None


def test_training_is_recorded_without_a_calling_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compat, "calling_handler", lambda: None)
    sink, trainer = train(tmp_path)
    assert sink.history("batch/loss") == logged(trainer, "loss")
    assert sink.columns["final/status"] == "finished"


def test_accelerate_s_wrappers_are_taken_off(tmp_path: Path) -> None:
    """Objects that accelerate has not wrapped stay as they are."""
    _, trainer = train(tmp_path, max_steps=1)
    optimizer, scheduler = trainer.optimizer, trainer.lr_scheduler
    assert isinstance(optimizer, AcceleratedOptimizer)
    assert type(_compat.bare_optimizer(optimizer)) is torch.optim.SGD
    assert _compat.bare_scheduler(AcceleratedScheduler(scheduler, [optimizer])) is scheduler
    assert _compat.bare_scheduler(scheduler) is scheduler
    assert not _compat.is_scaled(optimizer)
    plain = torch.optim.SGD(Net().parameters())
    assert _compat.bare_optimizer(plain) is plain
    loader: Any = DataLoader(Points(), 4)
    assert _compat.bare_batch_sampler(loader) is loader.batch_sampler
    assert not _compat.splits_batches(loader)
    assert not _compat.shares_samples(loader)
