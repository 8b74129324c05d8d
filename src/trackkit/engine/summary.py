"""The summary: the `final/*` columns of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trackkit.engine.faults import Faults, Group
from trackkit.engine.run_info import Status


def best_key(columns: Mapping[str, Any]) -> str | None:
    """Returns the column with the best value of the monitored metric, which is written first; None without one."""
    return next((key for key in columns if key.startswith("final/best/") and f"{key}_step" in columns), None)


class Summary:
    """Collects the summary columns and writes them to the sinks.

    Args:
        callbacks, sinks, faults: of the run.
    """

    def __init__(self, callbacks: Group, sinks: Group, faults: Faults) -> None:
        self._callbacks, self._sinks, self._faults = callbacks, sinks, faults
        self._columns: dict[str, Any] = {}
        self._written: dict[str, Any] = {}

    @property
    def written(self) -> Mapping[str, Any]:
        """The columns as they were written last."""
        return self._written

    def note(self, columns: Mapping[str, Any]) -> None:
        """Adds columns that the framework itself measured; they replace those of callbacks."""
        self._columns.update(columns)

    def write(self, status: Status) -> None:
        """Writes all columns as they are now. Leaves out values that are not finite."""
        values: dict[str, Any] = {}
        for columns in self._callbacks.call("final"):
            values.update(columns)
        values.update(self._columns)
        finite = {key: value for key, value in values.items() if not isinstance(value, float) or math.isfinite(value)}
        errors = self._faults.count
        self._written = {**finite, "final/status": status, "final/tracker_errors": errors}
        self._sinks.call("summary", self._written)
        self.correct(errors)

    def correct(self, errors: int) -> None:
        """Writes the number of errors again if it is no longer `errors`."""
        if self._faults.count != errors:
            self._sinks.call("summary", {"final/tracker_errors": self._faults.count})
