"""The port of sinks: where rows, config and summary are written. Every backend implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from trackkit.engine.records import Checkpoint, Gap, Line, Row
from trackkit.engine.run_info import RunInfo


class Sink:
    """Base of all backends: override the methods you need.

    A sink need not retry anything itself: if a method raises, the engine keeps the arguments and calls it again
    (`Outbox`). A call that raised must therefore have changed nothing, or be harmless when it is repeated.

    Attributes:
        FATAL: exceptions that are raised to the user instead, for a setting that can't be met.
        REOPENS: whether `open` may be called again if it fails. If not, the sink is then disabled for the run.
        run: the backend's own run object, which `trackkit.run` returns; None if it has none, and before `open`.
        uploads: takes the files of checkpoints (`checkpoints.uploads.Uploads`); None if it takes none now.
        unused: the settings that would have no effect in the open run, and why.
        place: where the run can be viewed, such as a URL; "" if nowhere yet.
        joined: path of a run that the program itself started and that this sink writes to; "" for a run of its own.
    """

    FATAL: ClassVar[tuple[type[Exception], ...]] = ()
    REOPENS: ClassVar[bool] = True
    run: Any = None
    uploads: Any = None
    unused: Mapping[str, str] = MappingProxyType({})
    place: str = ""
    joined: str = ""

    def open(self, info: RunInfo) -> None:
        """Opens the run."""

    def write(self, row: Row) -> None:
        """Writes one row of history; rows come in order."""

    def gap(self, gap: Gap) -> None:
        """Marks rows that are lost, because they could not be written; the next row comes after them."""

    def samples(self, values: Mapping[str, Any], step: int) -> None:
        """Writes pictures, tables and the like that the program logged at `step`: `samples/<name>` to value."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Takes a checkpoint that the framework has just saved; from any thread. Its files go to `uploads`."""

    def config(self, values: Mapping[str, Any]) -> None:
        """Adds to the run's config."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Updates the summary columns; later values replace earlier ones.

        May be called after `close`, if closing another sink failed; a sink that can't write any more ignores it.
        """

    def console(self, lines: Sequence[Line]) -> None:
        """Takes lines that the program printed, about once per second, from another thread than all other calls."""

    def preempting(self) -> None:
        """Marks the run as preempted: its machine is being taken away, and it may be requeued."""

    def close(self, exit_code: int) -> None:
        """Ends the run."""
