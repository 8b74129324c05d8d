"""The x-axis of each key."""

from __future__ import annotations

from typing import Any, Protocol

from trackkit.schema.keys import axis_key

_NO_SUMMARY = ("batch/", "device/", "ranks/")


class Defines(Protocol):
    """A W&B run, or what takes its place."""

    def define_metric(self, name: str, step_metric: str | None = None, *, summary: str | None = None) -> Any:
        """As W&B's own."""


def define(run: Defines, key: str, epoch_axis: str, axis: str = "") -> None:
    """Tells W&B the axis of a key that appears for the first time, and whether its last value is a column.

    Args:
        run: the run.
        key: the key.
        epoch_axis: the setting.
        axis: of a name that is no key of the schema; default: the key's own.
    """
    axis = axis or axis_key(key, epoch_axis)
    run.define_metric(
        key,
        step_metric=None if key == axis else axis,
        summary="none" if key.startswith(_NO_SUMMARY) else None,
    )
