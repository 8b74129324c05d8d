"""Private names of Lightning and torch. They are used here only; `PRIVATE` lists them."""

# ruff: noqa: SLF001 -- this file is where private names are reached

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trackkit.integrations.private import Private

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
    from torch import Tensor
    from torch.amp.grad_scaler import GradScaler
    from torch.optim import Optimizer


_PL = "lightning 2.6.6"
_TORCH = "torch 2.13"
_FAILS = "the hook fails: one error is logged, all are counted, and training continues without"

PRIVATE = [
    Private("Trainer._logger_connector", "what the module logs", _PL, f"{_FAILS} any recording"),
    Private("Trainer._logger_connector.log_metrics", "what the module logs", _PL, "one warning; no logged values"),
    Private(
        "Trainer._logger_connector.update_train_step_metrics",
        "the moment at which a batch has logged everything",
        _PL,
        "one warning; rows are sealed by the next batch, without values that Lightning does not log itself",
    ),
    Private("Trainer._logger_connector._first_loop_iter", "batch or epoch values", _PL, f"{_FAILS} logged values"),
    Private("Trainer._checkpoint_connector", "the loaded checkpoint", _PL, f"{_FAILS} any recording"),
    Private("Trainer._checkpoint_connector.resume_end", "the moment it is loaded", _PL, "one warning; no resumed run"),
    Private("Trainer._checkpoint_connector._loaded_checkpoint", "its step and run", _PL, f"{_FAILS} a resumed run"),
    Private("Trainer.fit_loop.epoch_loop._on_before_fetch", "the wait for data", _PL, "one warning; no data time"),
    Private("Trainer.fit_loop.epoch_loop._on_after_fetch", "the wait for data", _PL, "one warning; no data time"),
    Private("Trainer.fit_loop.epoch_loop._batches_that_stepped", "rows that are due", _PL, f"{_FAILS} batch rows"),
    Private("Trainer._results", "values of a batch at which Lightning does not log", _PL, f"{_FAILS} them"),
    Private("Results._get_cache", "values of a batch at which Lightning does not log", _PL, f"{_FAILS} them"),
    Private("Results._forked_name", "values of a batch at which Lightning does not log", _PL, f"{_FAILS} them"),
    Private("Trainer._evaluation_loop", "names of evaluation sets", _PL, f"{_FAILS} values of several sets"),
    Private("Trainer.validate_loop._combined_loader", "names of sets", _PL, f"{_FAILS} values of several sets"),
    Private("Trainer._val_check_time_interval", "time between validations", _PL, "treated as Lightning 2.5: none"),
    Private("Trainer.fit_loop.setup_data._last_val_time", "time of a validation", _PL, f"{_FAILS} gradient norms"),
    Private("GradScaler._per_optimizer_states", "skipped steps", _TORCH, f"{_FAILS} 16-bit gradient norms"),
    Private("GradScaler._scale", "unscaled norms", _TORCH, f"{_FAILS} 16-bit gradient norms"),
    Private("Fused._step_supports_amp_scaling", "unscaled norms", _TORCH, "fused optimizers: 16-bit norms are scaled"),
]
"""Every private name."""

BEFORE_FETCH = "_on_before_fetch"
AFTER_FETCH = "_on_after_fetch"


def logger_connector(trainer: Trainer) -> Any:
    """Returns the object that passes logged values to the loggers."""
    return trainer._logger_connector


def in_batch(trainer: Trainer) -> bool:
    """Returns whether Lightning logs the values of a batch, rather than of an epoch."""
    return trainer._logger_connector._first_loop_iter is not None


def checkpoint_connector(trainer: Trainer) -> Any:
    """Returns the object that loads checkpoints."""
    return trainer._checkpoint_connector


def loaded_checkpoint(trainer: Trainer) -> dict[str, Any]:
    """Returns the checkpoint that is being restored; empty without one."""
    return trainer._checkpoint_connector._loaded_checkpoint


def batches_that_stepped(loop: _TrainingEpochLoop) -> int:
    """Returns how many batches with a step Lightning has counted, by which it logs."""
    return loop._batches_that_stepped


def batch_values(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    """Yields name and value of everything that the last batch logged for loggers, per step."""
    results = trainer._results
    assert results is not None
    for _, item in results.valid_items():
        value = results._get_cache(item, True)
        if item.meta.logger and value is not None:
            yield results._forked_name(item, True)[1], value


def evaluation_loaders(trainer: Trainer) -> Any:
    """Returns the loaders of the running evaluation, in the collection that the user gave."""
    loader = trainer._evaluation_loop._combined_loader
    assert loader is not None
    return loader.iterables


def validation_interval(trainer: Trainer) -> float | None:
    """Returns the seconds between validations; None if they are not spaced by time, as always before Lightning 2.6."""
    return getattr(trainer, "_val_check_time_interval", None)


def last_validation(trainer: Trainer) -> float:
    """Returns the `time.monotonic` of the last validation, or of the fit's start."""
    return float(trainer._last_val_time)  # type: ignore[attr-defined]


def found_inf(scaler: GradScaler, optimizer: Optimizer) -> Mapping[Any, Tensor]:
    """Returns device to found-inf flag of an optimizer's step; empty until its gradients are unscaled."""
    flags: Mapping[Any, Tensor] = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
    return flags


def scale_of(scaler: GradScaler) -> Tensor | None:
    """Returns the loss scale (a device scalar)."""
    return scaler._scale


def unscales_itself(optimizer: Optimizer) -> bool:
    """Returns whether the optimizer unscales gradients during its step, as fused ones do."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def missing() -> list[str]:
    """Returns the names of `PRIVATE` that the installed Lightning and torch lack."""
    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection

    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    owners = {
        "Trainer": Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, **quiet),
        "Results": _ResultCollection,
        "GradScaler": torch.amp.GradScaler("cpu"),
        "Fused": torch.optim.SGD([torch.zeros(1)], fused=True),
    }
    return [each.name for each in PRIVATE if not _has(owners, each.name)]


def _has(owners: Mapping[str, Any], name: str) -> bool:
    root, *path, attribute = name.split(".")
    owner = owners[root]
    for part in path:
        owner = getattr(owner, part, None)
    # What is set only during a fit is named in the code of the function that sets it.
    code = getattr(owner, "__code__", None)
    return attribute in dir(owner) or (code is not None and attribute in code.co_names)
