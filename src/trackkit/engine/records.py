"""The frozen values that flow from an adapter, through the tracker, to the sinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from trackkit.schema.keys import Tier

if TYPE_CHECKING:
    import torch


class Moment(NamedTuple):
    """Where a training stands when a batch row opens.

    Attributes:
        step: optimizer steps taken so far: the framework's own counter.
        epoch: epochs so far, fractional; None where the data has no length and no epoch count.
        total_steps: planned optimizer steps; None where unknown.
    """

    step: int
    epoch: float | None = None
    total_steps: int | None = None


class Line(NamedTuple):
    """A line that the program printed.

    Attributes:
        time: Unix time in seconds at which it was last written to.
        stream: `stdout`, `stderr`, or `trackkit` for a line that says what was left out.
        text: without its end, colors and other control characters; secrets masked.
    """

    time: float
    stream: str
    text: str


class Gradients(NamedTuple):
    """Describes the gradients at hand just before an optimizer's step; where `clipped`, perhaps during it.

    Attributes:
        optimizer: the torch optimizer about to step.
        name: its name where the training has several optimizers, else "".
        clipped: whether the framework has clipped them already, which changes their norm.
        scale: the loss scale by which they are still multiplied (a device scalar); None when they are unscaled.
        module: the model, which names the parameters; None if it is unknown.
        norms: L2 norm of each gradient (device scalars), in order, if they were measured before clipping; else None.
    """

    optimizer: torch.optim.Optimizer
    name: str = ""
    clipped: bool = False
    scale: torch.Tensor | None = None
    module: torch.nn.Module | None = None
    norms: list[torch.Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of history: from the engine to every sink and the local log, and back out of the readers.

    Attributes:
        number: position among the rows of this attempt, from 0; of a row read back, among those of the run.
        tier: which x-axis it belongs to.
        step: optimizer steps: the value of the row's axis key, and the lowest step a backend may file it under.
        time: seconds since the epoch (Unix time) when the row was opened.
        values: key to number; the axis keys are among them. A server's rows may hold other JSON values too.
        origins: key to the name it was logged under, for keys that were logged.
        attempt: which process of the run made it, from 1.
    """

    number: int
    tier: Tier
    step: int
    time: float
    values: Mapping[str, Any]
    origins: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 1


class Gap(NamedTuple):
    """Rows that a sink could not write, one after another.

    Attributes:
        rows: how many; a lower bound if the process was killed before it could count them.
        first, last: their lowest and highest step, in optimizer steps.
    """

    rows: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.rows} row{'s' * (self.rows != 1)} (steps {self.first} to {self.last})"

    def joined(self, other: Gap) -> Gap:
        """Returns both as one gap."""
        return Gap(self.rows + other.rows, min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that the framework has just saved.

    Attributes:
        path: of the file or folder, or its URL (`s3://...`).
        step: optimizer steps taken.
        framework: `lightning`, `huggingface`, ...
        epoch: passes through the data so far, fractional; None if unknown.
        monitor: logged name of the metric that says which checkpoint is best; "" for none.
        value: of that metric; None if it has none.
        goal: `min` or `max`, for the metric; "" for none.
        series: name of the series it belongs to, where the framework keeps several (one for each monitor); else "".
        resumable: whether training can continue from it; False if it has weights alone.
        complete: False if the framework marks it as unfinished: it is recorded, and not uploaded.
        shared: whether other ranks may still be writing into the folder.
        parts: names of files that other ranks write last into the folder, as far as they are known.
        again: whether it has the same weights as the save before it in its series.
    """

    path: str
    step: int
    framework: str
    epoch: float | None = None
    monitor: str = ""
    value: float | None = None
    goal: str = ""
    series: str = ""
    resumable: bool = True
    complete: bool = True
    shared: bool = False
    parts: tuple[str, ...] = ()
    again: bool = False
