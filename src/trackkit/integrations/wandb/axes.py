"""The x-axis of each key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackkit.schema import axis_key

if TYPE_CHECKING:
    import wandb

_NO_SUMMARY = ("batch/", "device/", "ranks/")


def define(run: wandb.Run, key: str, epoch_axis: str) -> None:
    """Tells W&B the axis of a key that appears for the first time, and whether its last value is a column."""
    axis = axis_key(key, epoch_axis)
    run.define_metric(
        key,
        step_metric=None if key == axis else axis,
        summary="none" if key.startswith(_NO_SUMMARY) else None,
    )
