"""The open row: it takes reports until it is sealed, waits for its device values, and is emitted as a `Row`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from trackkit.engine.device_copy import DeviceCopy
from trackkit.engine.records import Moment
from trackkit.notices import logger
from trackkit.schema.keys import BATCH, Where
from trackkit.schema.names import Names


class OpenRow:
    """A row from its opening until it is emitted.

    Args:
        where: the event that opened it.
        step: optimizer steps taken.
        epoch: epochs so far, fractional; None if unknown.

    Attributes:
        by_step: whether a step opened it, rather than a report: then callbacks and other ranks add to it.
        number: position among the rows of this attempt, from 0; -1 until it is sealed.
        time: Unix time in seconds when it was opened.
        axes: the x-axis keys.
        measured: key to value, measured by TrackKit. A value is a number, a device scalar or a list of those.
        reports: pairs of an event and its values by logged name, in order. The event is None for values that the
            framework measured; these are by key.
        values: key to number, once sealed; without device values until `copy` is read.
        origins: key to logged name, once sealed.
        copy: the copy of the device values; None if there are none, and once they have been read or given up.
        posted: whether its values are complete and have been sent to rank 0.
    """

    def __init__(self, where: Where, step: int, epoch: float | None) -> None:
        self.where = where
        self.step = step
        self.by_step = False
        self.number = -1
        self.time = time.time()
        self.axes: dict[str, float | int] = {f"{where.tier}/step": step}
        if epoch is not None:
            self.axes[f"{where.tier}/epoch"] = epoch
        self.measured: dict[str, Any] = {}
        self.reports: list[tuple[Where | None, Mapping[str, Any]]] = []
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.copy: DeviceCopy | None = None
        self.posted = False

    @classmethod
    def of_step(cls, moment: Moment) -> OpenRow:
        """Opens the row of a training step."""
        row = cls(BATCH, moment.step, moment.epoch)
        row.by_step = True
        if moment.total_steps is not None:
            row.axes["batch/iter_num"] = moment.total_steps
        return row

    def seal(self, names: Names, refused: set[str]) -> bool:
        """Ends the reports: finds the keys, and starts the copy of device values.

        Reported values beat measured ones; the user's beat the framework's.

        Args:
            names: the run's names and keys.
            refused: logged names that a warning was given for; new ones are added.

        Returns:
            Whether the row has values besides its axes.

        Raises:
            SchemaError: a name that `names: strict` refuses.
        """
        framework: dict[str, Any] = {}
        logged: dict[Where, dict[str, Any]] = {}
        for where, reported in self.reports:
            kept = framework if where is None else logged.setdefault(where, {})
            kept.update(numbers(reported, refused))
        values: dict[str, Any] = {**self.axes, **self.measured, **framework}
        names.claim(list(values))
        for where, named in logged.items():
            for name, key in names.resolve(list(named), where).items():
                values[key] = named[name]
                self.origins[key] = where.spelled(name)
        self.values = {key: value for key, value in values.items() if isinstance(value, (int, float))}
        if len(self.values) < len(values):
            self.copy = DeviceCopy(values)
        return len(values) > len(self.axes)


def numbers(values: Mapping[str, Any], refused: set[str]) -> dict[str, Any]:
    """Returns the values that are numbers or tensors of one element. Ignores None; warns once about anything else.

    Args:
        values: logged name to value.
        refused: names that a warning was given for; new ones are added.
    """
    kept: dict[str, Any] = {}
    for name, value in values.items():
        number = _number(value)
        if number is not None:
            kept[str(name)] = number
        elif value is not None and name not in refused:
            refused.add(name)
            logger.warning("metric '%s' is of type %s, not a number, and is not recorded", name, type(value).__name__)
    return kept


def is_number(value: Any) -> bool:
    """Returns whether a value is a number, or a tensor or array of one element."""
    return _number(value) is not None


def _number(value: Any) -> Any:
    """Returns a Python number, a tensor of one element as it is, or None for anything else."""
    if isinstance(value, (bool, int)):
        # Neither a float nor JSON can hold a longer integer.
        return int(value) if value.bit_length() < 1024 else math.inf if value > 0 else -math.inf
    if isinstance(value, float):
        return float(value)
    numel = getattr(value, "numel", None)
    if callable(numel) and hasattr(value, "detach"):
        return value if numel() == 1 else None
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "size", 0) == 1 and getattr(value, "dtype", None) is not None:
        return _number(item())
    return None
