"""Where rows go: the port that every backend implements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from trackkit.engine.records import Row
from trackkit.engine.run_info import RunInfo


class Sink:
    """A backend. Any method may raise: the tracker then goes on without this sink.

    Attributes:
        FATAL: exceptions of `open` that are the user's to hear: a setting that can't be met.
        run: the backend's own run object, which `trackkit.run` gives; None if it has none, or before `open`.
    """

    FATAL: ClassVar[tuple[type[Exception], ...]] = ()
    run: Any = None

    def open(self, info: RunInfo) -> None:
        """The run starts."""

    def write(self, row: Row) -> None:
        """One row of history; rows come in order."""

    def config(self, values: Mapping[str, Any]) -> None:
        """More of the run's config."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """The summary columns; may come again, later values replacing earlier ones.

        Even after `close`, where closing another sink has failed: a sink that can't take it then passes it over.
        """

    def preempting(self) -> None:
        """The machine is being taken away; the run may be requeued."""

    def close(self, exit_code: int) -> None:
        """The run is over."""
