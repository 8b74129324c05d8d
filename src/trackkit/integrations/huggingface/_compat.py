"""Reaches the names that transformers and accelerate keep to themselves; nothing else of TrackKit does."""

# ruff: noqa: SLF001 -- this file is where private names are reached

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping
from types import FrameType, MappingProxyType
from typing import Any

from trackkit.integrations import private
from trackkit.integrations.everywhere import everywhere_class
from trackkit.integrations.loading import kit_class
from trackkit.integrations.private import Private

_TRANSFORMERS, _ACCELERATE = "transformers 5.23.0, 5.24.0", "accelerate 1.15.0"
_CARRIER, _OURS = "TrainerControl", "trackkit"
_HANDLER = "transformers.trainer_callback:CallbackHandler"
_NO_TRAINER = "one TrackKit in several trainers records them in one run; two in one trainer both record"
_WRAPPED = "the run config describes accelerate's wrapper"
_UNCOUNTED = "samples and batch sizes are left out"
_UNSPLIT = "samples and batch sizes of several ranks are wrong"
_NO_HUB = "final/hub_url is missing"

PRIVATE = [
    Private(f"{_HANDLER}.call_event", "its frame says which trainer calls", _TRANSFORMERS, _NO_TRAINER),
    Private(
        "transformers:Trainer.train",
        "its frame says which checkpoint the training resumed from",
        _TRANSFORMERS,
        "runtime/resumed_from is missing",
    ),
    Private(
        "transformers.trainer_callback:TrainerState.save_to_json",
        "is called when a checkpoint is complete, before older ones are deleted",
        _TRANSFORMERS,
        "checkpoints are not recorded",
    ),
    Private(
        "transformers:Trainer._save_rng_state",
        "writes the last file of each rank into a checkpoint",
        _TRANSFORMERS,
        "a checkpoint counts as written once its folder has not changed for a second",
    ),
    Private("transformers:Trainer.push_to_hub", "returns the commit of a push", _TRANSFORMERS, _NO_HUB),
    Private("transformers:Trainer._push_from_checkpoint", "pushes during a training", _TRANSFORMERS, _NO_HUB),
    Private(
        "transformers:Trainer.current_gradient_accumulation_steps",
        "undoes the division of a batch's loss, for its data source",
        _TRANSFORMERS,
        "batch/loss/source/* is divided by accumulation",
    ),
    Private(
        "transformers:Trainer.model_accepts_loss_kwargs",
        "says whether the model divides a batch's loss by the items of the whole step",
        _TRANSFORMERS,
        "batch/loss/source/* is divided by accumulation",
    ),
    Private(f"{_HANDLER}.callbacks", "finds other TrackKits of the trainer", _TRANSFORMERS, "both record"),
    Private(
        "transformers.trainer_callback:TrainerState.stateful_callbacks",
        "carries plain data in a checkpoint: the run's id and counts",
        _TRANSFORMERS,
        "a resumed training starts a new run",
    ),
    Private(
        "transformers.trainer_callback:TrainerControl.state",
        "what the trainer adds to the state when it saves, and so the place of that data",
        _TRANSFORMERS,
        "a resumed training starts a new run",
    ),
    Private(
        "transformers.trainer:DEFAULT_CALLBACKS",
        "`trackkit run --everywhere`",
        _TRANSFORMERS,
        "trainers that have no TrackKit are not recorded under `trackkit run --everywhere`",
    ),
    Private(
        "transformers.integrations.integration_utils:INTEGRATION_TO_CALLBACK",
        "makes report_to='trackkit' known",
        _TRANSFORMERS,
        "report_to='trackkit' is refused by transformers; callbacks=[TrackKit()] works",
    ),
    Private(
        "transformers.trainer_pt_utils:IterableDatasetShard.num_processes",
        "recognizes a stream that is split over the ranks",
        _TRANSFORMERS,
        _UNSPLIT,
    ),
    Private("accelerate.optimizer:AcceleratedOptimizer.optimizer", "describes the optimizer", _ACCELERATE, _WRAPPED),
    Private("accelerate.scheduler:AcceleratedScheduler.scheduler", "describes the scheduler", _ACCELERATE, _WRAPPED),
    Private(
        "accelerate.optimizer:AcceleratedOptimizer.scaler",
        "says whether gradients are scaled",
        _ACCELERATE,
        "batch/skipped_steps stays 0",
    ),
    Private(
        "accelerate.optimizer:AcceleratedOptimizer.step_was_skipped",
        "counts the steps that the scaler skipped",
        _ACCELERATE,
        "batch/skipped_steps stays 0",
    ),
    Private("accelerate.data_loader:BatchSamplerShard.batch_sampler", "finds the sampler", _ACCELERATE, _UNCOUNTED),
    Private("accelerate.data_loader:BatchSamplerShard.split_batches", "size of a batch", _ACCELERATE, _UNSPLIT),
    Private("accelerate.data_loader:DataLoaderDispatcher.split_batches", "size of a batch", _ACCELERATE, _UNSPLIT),
    Private(
        "accelerate.data_loader:IterableDatasetShard.num_processes",
        "recognizes a stream that is split over the ranks",
        _ACCELERATE,
        _UNSPLIT,
    ),
    Private(
        "accelerate.data_loader:DataLoaderStateMixin.end_of_dataloader",
        "recognizes the last batch of a stream, whose size is unknown",
        _ACCELERATE,
        "that batch counts as full",
    ),
]

PUSHES = ("push_to_hub", "_push_from_checkpoint")

# Named by no constant of transformers (trainer_jit_checkpoint.py).
_INCOMPLETE = "checkpoint-is-incomplete.txt"


def missing() -> list[str]:
    """Returns the names in `PRIVATE` that the installed versions lack."""
    return private.missing(PRIVATE)


def calling_handler() -> Any:
    """Returns the callback handler of the trainer that called the hook; None if something else called it."""
    from transformers.trainer_callback import CallbackHandler

    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        # SetFit has an `overwritten_call_event`.
        if frame.f_code.co_name.endswith("call_event"):
            handler = frame.f_locals.get("self")
            if isinstance(handler, CallbackHandler):
                return handler
        frame = frame.f_back
    return None


def resumed_from() -> str:
    """Returns the checkpoint that the calling training resumed from; "" if unknown."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "train" and isinstance(
            path := frame.f_locals.get("resume_from_checkpoint"), (str, os.PathLike)
        ):
            return os.fspath(path)
        frame = frame.f_back
    return ""


def calling_trainer() -> Any:
    """Returns the trainer whose training calls the hook; None if that is not known."""
    from transformers import Trainer

    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "train" and isinstance(trainer := frame.f_locals.get("self"), Trainer):
            return trainer
        frame = frame.f_back
    return None


def checkpoint_name(step: int) -> str:
    """Returns the name of the folder of a step's checkpoint."""
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

    return f"{PREFIX_CHECKPOINT_DIR}-{step}"


def is_complete(folder: str) -> bool:
    """Returns whether a just-in-time checkpoint has been written to its end; others always are."""
    return os.path.isdir(folder) and not os.path.exists(os.path.join(folder, _INCOMPLETE))


def last_parts(ranks: int) -> tuple[str, ...]:
    """Returns the file that each rank writes last into a checkpoint (`Trainer._save_rng_state`)."""
    return tuple(f"rng_state_{rank}.pth" for rank in range(ranks))


def pushes_in_progress(method: Any) -> list[Any]:
    """Returns the uploads of the model that run in the background, of the trainer that `method` belongs to."""
    running = getattr(getattr(method, "__self__", None), "push_in_progress", None)
    return list(getattr(running, "jobs", ()))


def loaded_best(method: Any) -> str:
    """Returns the checkpoint that the trainer of `method` has loaded at the end of its training; "" if none."""
    trainer = getattr(method, "__self__", None)
    loads = getattr(getattr(trainer, "args", None), "load_best_model_at_end", False)
    return getattr(getattr(trainer, "state", None), "best_model_checkpoint", None) or "" if loads else ""


def kits_of(handler: Any, hooks: type) -> list[Any]:
    """Returns the callbacks of a handler that are instances of `hooks`; none for None."""
    return [each for each in getattr(handler, "callbacks", ()) if isinstance(each, hooks)]


class _Callbacks(dict[str, Any]):
    """Holds the callbacks' states of a checkpoint; that of the trainer's own control object carries TrackKit's fields.

    An entry of TrackKit's own would not do: a trainer that restores callbacks warns about names that it does not know,
    and replaces a callback that it knows by a new one with default settings.
    """

    fields: Mapping[str, Any] = MappingProxyType({})

    def __setitem__(self, name: str, state: Any) -> None:
        if name == _CARRIER and self.fields and isinstance(state, dict):
            ours = {_OURS: copy.deepcopy(dict(self.fields))}
            state = {**state, "attributes": {**state.get("attributes", {}), **ours}}
        super().__setitem__(name, state)


def carried(state: Any) -> Mapping[str, Any]:
    """Returns what `carry` put into the checkpoint that a trainer's state was loaded from; empty if nothing."""
    callbacks = getattr(state, "stateful_callbacks", None) or {}
    own, old = callbacks.get(_CARRIER), callbacks.get(_OURS)
    fields = own.get("attributes", {}).get(_OURS) if isinstance(own, dict) else None
    if fields is None and isinstance(old, dict):
        # Earlier versions wrote an entry of their own.
        fields = old.get("attributes")
    return fields if isinstance(fields, dict) else {}


def carry(state: Any, fields: Mapping[str, Any]) -> None:
    """Makes every checkpoint carry `fields`, plain data, as they are when it is saved."""
    callbacks = _Callbacks(getattr(state, "stateful_callbacks", None) or {})
    callbacks.pop(_OURS, None)
    callbacks.fields = fields
    state.stateful_callbacks = callbacks


def bare_optimizer(optimizer: Any) -> Any:
    """Returns the torch optimizer in accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def bare_scheduler(scheduler: Any) -> Any:
    """Returns the torch scheduler in accelerate's wrapper."""
    return getattr(scheduler, "scheduler", scheduler)


def batches_of_loss(trainer: Any, items: Any) -> int:
    """Returns the number of batches over whose items the loss of one batch is divided; 1 if only over its own.

    Args:
        trainer: the trainer.
        items: `num_items_in_batch` of `compute_loss`.
    """
    scaled = getattr(trainer, "loss_is_scaled_for_ga", None)
    if scaled is None:
        accepts = getattr(trainer, "model_accepts_loss_kwargs", False) and items is not None
        scaled = accepts or trainer.compute_loss_func is not None
    return int(getattr(trainer, "current_gradient_accumulation_steps", 1)) if scaled else 1


def is_scaled(optimizer: Any) -> bool:
    """Returns whether a gradient scaler may skip steps of the optimizer."""
    return getattr(optimizer, "scaler", None) is not None and hasattr(optimizer, "step_was_skipped")


def step_was_skipped(optimizer: Any) -> bool:
    """Returns whether the scaler skipped the last step of an optimizer for which `is_scaled` holds."""
    return bool(optimizer.step_was_skipped)


def bare_batch_sampler(loader: Any) -> Any:
    """Returns the batch sampler that accelerate shares out between the ranks; None if the loader has none."""
    sampler = getattr(loader, "batch_sampler", None)
    return getattr(sampler, "batch_sampler", sampler)


def splits_batches(loader: Any) -> bool:
    """Returns whether a batch of the sampler is split over the ranks, instead of each rank taking one."""
    return any(getattr(each, "split_batches", False) for each in (getattr(loader, "batch_sampler", None), loader))


def shares_samples(loader: Any) -> bool:
    """Returns whether the ranks share one pass over the data, instead of each making its own."""
    sharded = loader.batch_sampler is not bare_batch_sampler(loader)
    return sharded or hasattr(loader, "split_batches") or hasattr(loader.dataset, "num_processes")


def at_last_batch(loader: Any) -> bool:
    """Returns whether accelerate's loader has given its last batch."""
    return bool(getattr(loader, "end_of_dataloader", False))


def register_report_to(module: Any) -> None:
    """Makes `report_to="trackkit"` known to transformers' `integration_utils`."""
    getattr(module, "INTEGRATION_TO_CALLBACK", {})["trackkit"] = kit_class()


def add_to_defaults(module: Any) -> None:
    """Gives every trainer of transformers a TrackKit, which yields to another; `module` is `transformers.trainer`."""
    kit, defaults = everywhere_class(), getattr(module, "DEFAULT_CALLBACKS", None)
    if defaults is not None and kit not in defaults:
        defaults.append(kit)
