"""A row from its opening to its last value: what it takes, under which keys, and as which numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from trackkit.engine.device_copy import Transfer
from trackkit.engine.records import Row
from trackkit.notices import logger
from trackkit.schema.keys import Where
from trackkit.schema.names import Names


class OpenRow:
    """A row that still takes reports.

    Attributes:
        where, step: what opened it.
        time: when, Unix time in seconds.
        axes: the x-axis keys.
        measured: by TrackKit, key to value.
        framework: measured by the framework, which beats it.
        logged: by the user: event to name to value.
        by_step: whether a step that the trainer makes rows of opened it, rather than a report.
    """

    def __init__(self, where: Where, step: int, epoch: float | None, by_step: bool = False) -> None:
        self.where = where
        self.step = step
        self.time = time.time()
        self.axes: dict[str, float | int] = {f"{where.tier}/step": step}
        if epoch is not None:
            self.axes[f"{where.tier}/epoch"] = epoch
        self.measured: dict[str, Any] = {}
        self.framework: dict[str, Any] = {}
        self.logged: dict[Where, dict[str, Any]] = {}
        self.by_step = by_step

    def resolve(self, names: Names) -> tuple[dict[str, Any], dict[str, str]]:
        """Its values by key, and the logged names of those keys that have one.

        Raises:
            SchemaError: a name that `names: strict` refuses.
        """
        values: dict[str, Any] = {**self.axes, **self.measured, **self.framework}
        names.claim([*self.axes, *values], self.where)
        origins: dict[str, str] = {}
        for where, logged in self.logged.items():
            for name, key in names.resolve(logged, where).items():
                values[key] = logged[name]
                origins[key] = where.spelled(name)
        return values, origins


class SealedRow:
    """A row that is complete but for what is still on its way from the device or the ranks.

    Attributes:
        number, tier, step, time: as in `Row`.
        values: key to number; device scalars, and lists of them, are missing until they `arrive`.
        transfer: of those; None once they are in, or given up.
        measured: whether callbacks and other ranks have a part in it.
        posted: whether this rank's record is on its way to rank 0.
    """

    def __init__(self, number: int, row: OpenRow, values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
        self.number = number
        self.tier, self.step, self.time = row.where.tier, row.step, row.time
        self.measured = row.by_step
        self.posted = False
        self._origins = origins
        tensors: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(value, (int, float)):
                self.values[key] = value
            elif not isinstance(value, list) or value:
                tensors[key] = value
        self.transfer: Transfer | None = Transfer(tensors) if tensors else None
        self._order = [key for key in values if key in self.values or key in tensors]

    def arrive(self) -> None:
        """Puts what has come from the device in its place; waits for it where it is not there."""
        if self.transfer is None:
            return
        arrived, self.transfer = dict(self.transfer.values()), None
        self.values = {key: self.values[key] if key in self.values else _mean(key, arrived[key]) for key in self._order}

    def record(self) -> Row:
        """As it goes to the sinks."""
        return Row(self.number, self.tier, self.step, self.time, self.values, self._origins)


def numbers(values: Mapping[str, Any], told: set[str]) -> dict[str, Any]:
    """The values that are numbers; of the others, None is passed over, and the rest is told once.

    Args:
        values: logged name to value.
        told: the names that have been told of; what is told now is added.
    """
    kept: dict[str, Any] = {}
    for name, value in values.items():
        number = _number(value)
        if number is not None:
            kept[str(name)] = number
        elif value is not None and name not in told:
            told.add(name)
            logger.warning("a metric must be a number; '%s' is a %s and is left out", name, type(value).__name__)
    return kept


def _number(value: Any) -> Any:
    """A Python number, or a tensor of one element left as it is; None for anything else."""
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float):
        return float(value)
    numel = getattr(value, "numel", None)
    if callable(numel) and hasattr(value, "detach"):
        return value if numel() == 1 else None
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "size", 0) == 1 and getattr(value, "dtype", None) is not None:
        return _number(item())
    return None


def _mean(key: str, value: Any) -> Any:
    """A list of values stands for its mean, but for those that only `finish` sees."""
    return sum(value) / len(value) if isinstance(value, list) and key[0] != "_" else value
