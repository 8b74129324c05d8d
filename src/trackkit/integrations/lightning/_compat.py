"""Private names of Lightning and torch. They are used here only; `PRIVATE` lists them."""

# ruff: noqa: SLF001 -- this file is where private names are reached

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from trackkit.integrations.private import Private
from trackkit.notices import logger

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
    from torch import Tensor
    from torch.amp.grad_scaler import GradScaler
    from torch.optim import Optimizer


_PL = "lightning 2.5.0, 2.6.6"
_TORCH = "torch 2.13"
_WHERE_NOT_LOGGED = "values of a batch at which Lightning does not log"
_LAST_VALUE = "of several values of one name in a step, only the last is recorded"
_NUMBERED = "evaluation sets are numbered, not named"
_NOT_FORESEEN = "if validations are spaced by time, the last row may lack learning rate and gradient norm"
_NO_MONITOR = "checkpoints have no monitored metric, so none is the best"

PRIVATE = [
    Private("Trainer._logger_connector", "what the module logs", _PL, "values that the module logs are not recorded"),
    Private("Trainer._logger_connector.log_metrics", "the same", _PL, "values that the module logs are not recorded"),
    Private(
        "Trainer._logger_connector.update_train_step_metrics",
        "the moment at which a batch has logged everything",
        _PL,
        f"{_WHERE_NOT_LOGGED} are not recorded",
    ),
    Private(
        "Trainer._logger_connector._first_loop_iter",
        "tells values of a batch from those of an epoch",
        _PL,
        "values of epochs and evaluations are not recorded",
    ),
    Private("Trainer._checkpoint_connector", "the loaded checkpoint", _PL, "evaluations may have the wrong step"),
    Private("Trainer._checkpoint_connector.resume_end", "the same", _PL, "evaluations may have the wrong step"),
    Private("Trainer._checkpoint_connector._loaded_checkpoint", "the same", _PL, "evaluations may have the wrong step"),
    Private("Trainer.fit_loop.epoch_loop._on_before_fetch", "the wait for data", _PL, "data time is not recorded"),
    Private("Trainer.fit_loop.epoch_loop._on_after_fetch", "the wait for data", _PL, "data time is not recorded"),
    Private(
        "Trainer.fit_loop.epoch_loop._batches_that_stepped",
        "batches at which Lightning logs",
        _PL,
        "rows are those of every `log_every_n_steps`-th optimizer step",
    ),
    Private("Trainer._results", _WHERE_NOT_LOGGED, _PL, f"{_WHERE_NOT_LOGGED} are not recorded"),
    Private("Results._get_cache", _WHERE_NOT_LOGGED, _PL, f"{_WHERE_NOT_LOGGED} are not recorded"),
    Private("Results._forked_name", _WHERE_NOT_LOGGED, _PL, f"{_WHERE_NOT_LOGGED} are not recorded"),
    Private("Results.update_metrics", "every value that a step logs", _PL, _LAST_VALUE),
    Private("ResultMetric._forward_cache", "the same", _PL, _LAST_VALUE),
    Private("Trainer._evaluation_loop", "names of evaluation sets", _PL, _NUMBERED),
    Private("Trainer.validate_loop._combined_loader", "names of evaluation sets", _PL, _NUMBERED),
    Private("Trainer._val_check_time_interval", "time between validations", _PL, _NOT_FORESEEN),
    Private("Trainer.fit_loop.setup_data._last_val_time", "time of a validation", _PL, _NOT_FORESEEN),
    Private("ModelCheckpoint._save_checkpoint", "which callback saves", _PL, _NO_MONITOR),
    Private("ModelCheckpoint._monitor_candidates", "the monitored value", _PL, "checkpoints have no monitored value"),
    Private("Timer._start_time", "time limits", _PL, "the start of the run counts against a Timer before TrackKit"),
    Private("GradScaler._per_optimizer_states", "skipped steps", _TORCH, "16-bit gradient norms are not recorded"),
    Private("GradScaler._scale", "unscaled norms", _TORCH, "16-bit gradient norms are not recorded"),
    Private("Fused._step_supports_amp_scaling", "unscaled norms", _TORCH, "fused optimizers: 16-bit norms are scaled"),
]
"""Every private name. `when_gone` is the warning's text: it is logged once for each name."""

BEFORE_FETCH = "_on_before_fetch"
AFTER_FETCH = "_on_after_fetch"
SAVE_CHECKPOINT = "_save_checkpoint"
MONITOR_CANDIDATES = "_monitor_candidates"

Read = TypeVar("Read", bound=Callable[..., Any])

_warned: set[str] = set()


def warn_gone(attribute: str) -> None:
    """Logs once that Lightning or torch lacks a private name, and what is not recorded without it.

    Args:
        attribute: the last part of the name.
    """
    if attribute not in _warned:
        _warned.add(attribute)
        then = next((each.when_gone for each in PRIVATE if each.name.endswith(f".{attribute}")), "")
        logger.warning("This Lightning or torch has no '%s': %s.", attribute, then)


def _optional(default: Any) -> Callable[[Read], Read]:
    """Returns a decorator: a function returns `default`, and warns once, if a private name that it reads is gone."""

    def decorate(read: Read) -> Read:
        @functools.wraps(read)
        def call(*args: Any) -> Any:
            try:
                return read(*args)
            except AttributeError as error:
                warn_gone(error.name or "")
                return default

        return call  # type: ignore[return-value]

    return decorate


@_optional(None)
def logger_connector(trainer: Trainer) -> Any:
    """Returns the object that passes logged values to the loggers."""
    return trainer._logger_connector


@_optional(None)
def in_batch(trainer: Trainer) -> bool | None:
    """Returns whether Lightning logs the values of a batch, rather than of an epoch."""
    return trainer._logger_connector._first_loop_iter is not None


@_optional(None)
def checkpoint_connector(trainer: Trainer) -> Any:
    """Returns the object that loads checkpoints."""
    return trainer._checkpoint_connector


@_optional({})
def loaded_checkpoint(trainer: Trainer) -> dict[str, Any]:
    """Returns the checkpoint that is being restored; empty without one."""
    return trainer._checkpoint_connector._loaded_checkpoint


@_optional(None)
def batches_that_stepped(loop: _TrainingEpochLoop) -> int | None:
    """Returns how many batches with a step Lightning has counted, by which it logs."""
    return loop._batches_that_stepped


@_optional(())
def batch_values(trainer: Trainer) -> Sequence[tuple[str, Tensor]]:
    """Returns name and value of everything that the last batch logged for loggers, per step."""
    results = trainer._results
    assert results is not None
    found = [(item, results._get_cache(item, True)) for _, item in results.valid_items() if item.meta.logger]
    return [(results._forked_name(item, True)[1], value) for item, value in found if value is not None]


@_optional(None)
def training_results(trainer: Trainer) -> Any:
    """Returns the object that every value logged in training passes, through its method `update_metrics`."""
    return trainer.fit_loop.epoch_loop._results


@_optional(None)
def step_value(results: Any, key: str) -> tuple[str, Any] | None:
    """Returns name and value that `training_results` has just taken; None if it is not for loggers, per step."""
    item = results[key]
    if not (item.meta.on_step and item.meta.logger):
        return None
    return results._forked_name(item, True)[1], item._forward_cache


@_optional(None)
def evaluation_loaders(trainer: Trainer) -> Any:
    """Returns the loaders of the running evaluation, in the collection that the user gave."""
    loader = trainer._evaluation_loop._combined_loader
    assert loader is not None
    return loader.iterables


def model_checkpoints(trainer: Trainer) -> list[Any]:
    """Returns the trainer's `ModelCheckpoint`s, of either import root."""
    return [each for each in trainer.checkpoint_callbacks if _is_a(each, "ModelCheckpoint")]


def saves_on_exception(trainer: Trainer) -> bool:
    """Returns whether a callback may save a checkpoint after an exception. (Lightning 2.5.0 has no such setting.)"""
    others = [each for each in trainer.checkpoint_callbacks if not _is_a(each, "ModelCheckpoint")]
    return bool(others) or any(getattr(each, "save_on_exception", False) for each in model_checkpoints(trainer))


def background_writer(trainer: Trainer) -> Any:
    """Returns what writes checkpoints on a thread of its own (`AsyncCheckpointIO`'s); None if nothing does."""
    writer = trainer.strategy.checkpoint_io
    while _is_a(writer, "_WrappingCheckpointIO"):
        asynchronous, writer = _is_a(writer, "AsyncCheckpointIO"), writer.checkpoint_io  # type: ignore[attr-defined]
        if asynchronous:
            return writer
    return None


def _is_a(thing: object, name: str) -> bool:
    """Returns whether a class of that name is among those of `thing`: each import root has its own."""
    return any(each.__name__ == name for each in type(thing).__mro__)


def validation_interval(trainer: Trainer) -> float | None:
    """Returns the seconds between validations; None if they are not spaced by time, as before Lightning 2.6."""
    return getattr(trainer, "_val_check_time_interval", None)


@_optional(float("inf"))
def last_validation(trainer: Trainer) -> float:
    """Returns the `time.monotonic` of the last validation, or of the fit's start."""
    return float(trainer._last_val_time)  # type: ignore[attr-defined]


@_optional(None)
def postpone(timer: Any, since: float, seconds: float) -> None:
    """Leaves out the last `seconds` from the training time of a `Timer` that ran at `since`, in `time.monotonic`."""
    began = timer._start_time.get("train")
    if began is not None and began <= since:
        timer._start_time["train"] = began + seconds


def is_readable(scaler: GradScaler) -> bool:
    """Returns whether scales and skipped steps of a gradient scaler can be read; warns once if not."""
    gone = [name for name in ("_per_optimizer_states", "_scale") if not hasattr(scaler, name)]
    for name in gone:
        warn_gone(name)
    return not gone


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
    import lightning
    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint, Timer
    from lightning.pytorch.trainer.connectors.logger_connector.result import _Metadata, _ResultCollection, _ResultMetric

    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    owners = {
        "Trainer": Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, **quiet),
        "Results": _ResultCollection,
        "ResultMetric": _ResultMetric(_Metadata("fx", "name"), True),
        "ModelCheckpoint": ModelCheckpoint,
        "Timer": Timer(),
        "GradScaler": torch.amp.GradScaler("cpu"),
        "Fused": torch.optim.SGD([torch.zeros(1)], fused=True),
    }
    expected = [
        each.name for each in PRIVATE if not (lightning.__version__ < "2.6" and each.when_gone == _NOT_FORESEEN)
    ]
    return [name for name in expected if not _has(owners, name)]


def _has(owners: Mapping[str, Any], name: str) -> bool:
    root, *path, attribute = name.split(".")
    owner = owners[root]
    for part in path:
        owner = getattr(owner, part, None)
    # What is set only during a fit is named in the code of the function that sets it.
    code = getattr(owner, "__code__", None)
    return attribute in dir(owner) or (code is not None and attribute in code.co_names)


def callbacks_of_new_trainer() -> list[Any]:
    """Returns the callbacks of the trainer whose constructor is running; empty if that is not known.

    Lightning's connector of callbacks has them in `on_trainer_init` (2.5.0 to 2.6.6). Without that, Lightning refuses a
    second TrackKit under `trackkit run --everywhere`.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "on_trainer_init":
            return list(getattr(getattr(frame.f_locals.get("self"), "trainer", None), "callbacks", ()))
        frame = frame.f_back
    return []
