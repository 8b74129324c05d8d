"""The port of sinks: where rows, config and summary are written. Every backend implements it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from trackkit.engine.records import Row
from trackkit.engine.run_info import RunInfo


class Sink:
    """Base of all backends: override the methods you need.

    A sink that raises is disabled for the rest of the run; the others continue.

    Attributes:
        FATAL: exceptions that are raised to the user instead of disabling the sink: a setting that can't be met.
        run: the backend's own run object, that `trackkit.run` returns; None if it has none, and before `open`.
    """

    FATAL: ClassVar[tuple[type[Exception], ...]] = ()
    run: Any = None

    def open(self, info: RunInfo) -> None:
        """Opens the run."""

    def write(self, row: Row) -> None:
        """Writes one row of history; rows come in order."""

    def config(self, values: Mapping[str, Any]) -> None:
        """Adds to the run's config."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Updates the summary columns; later values replace earlier ones.

        May be called after `close`, if closing another sink failed; a sink that can't write any more ignores it.
        """

    def preempting(self) -> None:
        """Marks the run as preempted: the machine is taken away, and the run may be requeued."""

    def close(self, exit_code: int) -> None:
        """Ends the run."""
