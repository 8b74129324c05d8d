"""The W&B step of each row, and the x-axis of each key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from trackkit.engine.records import Row
from trackkit.engine.run_info import RunInfo
from trackkit.integrations.wandb import _compat
from trackkit.integrations.wandb.catch_up import last_written, missing_rows, read_held
from trackkit.integrations.wandb.sweep import SweepMetric
from trackkit.notices import logger
from trackkit.schema.keys import AXES, axis_key

if TYPE_CHECKING:
    import wandb

_NO_SUMMARY = ("batch/", "device/", "ranks/")


class Steps:
    """Gives each row its W&B step: never goes backwards, and never overwrites a value.

    W&B drops a row below its counter and merges rows of the same step. The axis keys in a row stay true to the
    training wherever the row lands.

    Args:
        last: highest W&B step in use; nothing is merged into its row, whose values are unknown. -1 for a new run.

    Attributes:
        last: the step given last.
    """

    def __init__(self, last: int = -1) -> None:
        self.last = last
        self._values: dict[str, Any] | None = {} if last < 0 else None

    def place(self, step: int, values: Mapping[str, Any], counter: int = -1) -> int:
        """Returns the W&B step for a row.

        Args:
            step: the row's own step.
            values: key to value.
            counter: W&B's own counter, if something else may have moved it; else -1.
        """
        step = max(step, self.last, counter)
        if step == self.last and self._would_change(values):
            step += 1
        if step != self.last or self._values is None:
            self.last, self._values = step, {}
        self._values.update(values)
        return step

    def _would_change(self, values: Mapping[str, Any]) -> bool:
        written = self._values
        if written is None:
            return True
        return any(key in written and not _same(written[key], value) for key, value in values.items())


class RowLog:
    """Logs rows to a run that other code may log to as well, each at an explicit step.

    Others wait while a row gets its step and is logged. wandb is asked for its counter only after others have logged,
    since that is a blocking round trip.

    Args:
        run: the W&B run.
        epoch_axis: the setting, `step` or `epoch`.
        sweep: the metric of the run's sweep.
    """

    def __init__(self, run: wandb.Run, epoch_axis: str, sweep: SweepMetric) -> None:
        self._run = run
        self._epoch_axis = epoch_axis
        self._sweep = sweep
        self._written: dict[str, int] = {}
        self._floors: dict[str, int] = {}
        self._warned = False
        self._defined: set[str] = set()
        # Until the first row of a resumed run, wandb answers that its counter is 0.
        self._steps = Steps(run.starting_step - 1)
        self._lock = threading.RLock()
        self._ours = self._counter_known = False
        self._release = _compat.intercept_rows(run, self._in_turn)

    def log(self, row: Row) -> None:
        """Logs what W&B lacks of a row, defines its new keys, and logs the sweep's metric under the sweep's name."""
        values = self._unwritten(row)
        if not values:
            return
        axis = ""
        if self._sweep.name and (key := self._sweep.key(row)):
            values[self._sweep.name], axis = row.values[key], axis_key(key, self._epoch_axis)
        for each in values:
            if each not in self._defined:
                define(self._run, each, self._epoch_axis, axis if each == self._sweep.name else "")
                self._defined.add(each)
        with self._lock:
            step = self._steps.place(row.step, values, -1 if self._counter_known else self._run.step)
            self._log({**values, "_timestamp": round(row.time, 6)}, step)

    def catch_up(self, info: RunInfo) -> None:
        """Logs the rows of earlier attempts that W&B lacks; later rows are logged only where they go beyond those."""
        earlier = info.earlier
        assert earlier is not None
        held = read_held(self._run, info)
        if self._run.offline and held.last >= 0:
            # Everyone's rows land above those in the earlier files, since `wandb sync` merges the files.
            with self._lock:
                self._steps = Steps(held.last)
                self._log({}, self._steps.place(held.last + 1, {}))
        for row in missing_rows(held, earlier):
            self.log(row)
        if info.start.is_fit:
            self._written, self._floors = last_written(held, earlier)

    def close(self) -> None:
        """Stops intercepting rows, so that other code no longer waits when it logs."""
        self._release()

    def _unwritten(self, row: Row) -> dict[str, Any]:
        """Returns the values of a row that W&B lacks, with the axes; empty if only axes are left.

        Of a repeated step, W&B keeps the first attempt's values.
        """
        if row.step <= self._floors.get(row.tier, -1):
            self._warn(self._floors[row.tier])
            return {}
        values = dict(row.values)
        if self._written:
            values = {key: value for key, value in values.items() if row.step > self._written.get(key, -1)}
            if values.keys() <= AXES:
                return {}
            values.update({key: row.values[key] for key in AXES if key in row.values})
        return values

    def _warn(self, step: int) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "W&B already has this run up to step %d and keeps those rows; the repeated ones are only in the local "
                "log. To record a separate run, set 'resume: never' and unset WANDB_RUN_ID.",
                step,
            )

    def _log(self, values: dict[str, Any], step: int) -> None:
        self._ours = True
        try:
            self._run.log(values, step=step)
        finally:
            self._ours = False

    def _in_turn(self, publish: Callable[[], None]) -> None:
        with self._lock:
            self._counter_known = self._ours
            publish()


class HasAxes(Protocol):
    """A W&B run, or anything else that takes the definition of a key."""

    def define_metric(self, name: str, step_metric: str | None = None, *, summary: str | None = None) -> Any:
        """Defines a key, as `wandb.Run.define_metric` does."""


def define(run: HasAxes, key: str, epoch_axis: str, axis: str = "") -> None:
    """Defines the x-axis of a key, and keeps the last values of `batch/`, `device/` and `ranks/` out of the summary.

    Args:
        run: the run.
        key: the key.
        epoch_axis: the setting, `step` or `epoch`.
        axis: axis of a key outside the schema; by default the schema's.
    """
    axis = axis or axis_key(key, epoch_axis)
    run.define_metric(
        key,
        step_metric=None if key == axis else axis,
        summary="none" if key.startswith(_NO_SUMMARY) else None,
    )


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) or (a != a and b != b)
