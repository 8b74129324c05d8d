"""Private names of accelerate. They are used here only; `PRIVATE` lists them."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from trackkit.integrations import private
from trackkit.integrations.private import Private

_CHECKED = "accelerate 1.15.0"
_ACCELERATOR = "accelerate:Accelerator"
_NOT_DESCRIBED = "model, optimizer and data are missing from the run config"
_NO_DATA = "samples, epochs and data times are left out"

PRIVATE = [
    Private(f"{_ACCELERATOR}._models", "the prepared models", _CHECKED, _NOT_DESCRIBED),
    Private(f"{_ACCELERATOR}._optimizers", "the prepared optimizers", _CHECKED, "steps are not counted"),
    Private(f"{_ACCELERATOR}._schedulers", "the prepared schedulers", _CHECKED, _NOT_DESCRIBED),
    Private(f"{_ACCELERATOR}._dataloaders", "the prepared loaders", _CHECKED, _NO_DATA),
    Private(
        "accelerate.data_loader:DataLoaderShard.base_dataloader", "gives the batches of a loader", _CHECKED, _NO_DATA
    ),
    Private("accelerate.data_loader:DataLoaderShard.begin", "is called when a pass begins", _CHECKED, _NO_DATA),
    Private("accelerate.data_loader:DataLoaderShard.end", "is called when a pass has ended", _CHECKED, _NO_DATA),
    Private(
        f"{_ACCELERATOR}.deepspeed_engine_wrapped",
        "gives DeepSpeed's gradient norm",
        _CHECKED,
        "batch/grad_norm is missing under DeepSpeed",
    ),
]


def missing() -> list[str]:
    """Returns the names in `PRIVATE` that the installed version lacks."""
    return private.missing(PRIVATE)


def models(accelerator: Any) -> list[Any]:
    """Returns the prepared models."""
    return list(getattr(accelerator, "_models", ()))


def optimizers(accelerator: Any) -> list[Any]:
    """Returns the prepared optimizers, in accelerate's wrappers."""
    return list(getattr(accelerator, "_optimizers", ()))


def schedulers(accelerator: Any) -> list[Any]:
    """Returns the prepared schedulers, without accelerate's wrappers."""
    return [getattr(each, "scheduler", each) for each in getattr(accelerator, "_schedulers", ())]


def loaders(accelerator: Any) -> list[Any]:
    """Returns the prepared loaders whose batches each rank reads by itself."""
    return [each for each in getattr(accelerator, "_dataloaders", ()) if is_followed(each)]


def is_followed(loader: Any) -> bool:
    """Returns whether a loader can be followed: not one whose batches the main process hands out."""
    return all(hasattr(loader, name) for name in ("base_dataloader", "begin", "end")) and not hasattr(
        loader, "slice_fn"
    )


def is_deepspeed(accelerator: Any) -> bool:
    """Returns whether DeepSpeed trains."""
    return str(getattr(accelerator.distributed_type, "value", "")) == "DEEPSPEED"


def is_fsdp(accelerator: Any) -> bool:
    """Returns whether FSDP trains."""
    return str(getattr(accelerator.distributed_type, "value", "")) == "FSDP"


def engine_norm(accelerator: Any) -> Any:
    """Returns the gradient norm of the step that DeepSpeed has just taken, before clipping; None if it has none."""
    engine = getattr(accelerator, "deepspeed_engine_wrapped", None)
    norm = getattr(engine, "get_global_grad_norm", None)
    return norm() if norm is not None else None


def trackers_asked_for() -> list[Any]:
    """Returns `log_with` of the accelerator whose `init_trackers` is running; empty if that is not known.

    Without it, a script that asks for W&B and TrackKit has two runs under `trackkit run --everywhere`.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 -- CPython's documented way to the calling frames
    while frame is not None:
        if frame.f_code.co_name == "init_trackers":
            return list(getattr(frame.f_locals.get("self"), "log_with", ()))
        frame = frame.f_back
    return []


def latest_state(accelerator: Any) -> str | None:
    """Returns the checkpoint that `load_state()` without a folder loads; None if it is unknown."""
    import os
    import re

    folder = os.path.join(accelerator.project_dir or ".", "checkpoints")
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    numbered = [(int(found[0]), name) for name in names if (found := re.findall(r"\d+", name))]
    return os.path.join(folder, max(numbered)[1]) if numbered else None
