"""The frozen values that flow from an adapter, through the tracker, to the sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

    from trackkit.session.resume import Earlier

Tier = Literal["batch", "epoch"]
Split = Literal["train", "val", "test", "predict"]
Status = Literal["running", "finished", "failed", "stopped", "preempted"]


class Moment(NamedTuple):
    """Where a training stands when a batch row opens.

    Attributes:
        step: optimizer steps taken so far: the framework's own counter.
        epoch: passes through the data so far, fractional; None where the data has no length and no epoch count.
        total_steps: planned optimizer steps; None where unknown.
    """

    step: int
    epoch: float | None = None
    total_steps: int | None = None


class Gradients(NamedTuple):
    """Gradients are present, just before (or, where `clipped`, around) an optimizer's step.

    Attributes:
        optimizer: the torch optimizer about to step.
        name: its name where the training has several optimizers, else "".
        clipped: the framework has clipped them already, so their norm is no longer theirs.
        scale: the loss scale that they still carry (a device scalar); None when they are unscaled.
        rates: the learning rates of the step, by parameter group, where the optimizer's own may be others by now:
            empty where they are not known. None where they are the optimizer's own.
    """

    optimizer: torch.optim.Optimizer
    name: str = ""
    clipped: bool = False
    scale: torch.Tensor | None = None
    rates: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """The event that logged a metric: it alone decides the tier and the split, never the metric's name.

    Attributes:
        tier: `batch` for a training step, `epoch` for an epoch's or an evaluation's end.
        split: the data it was computed on.
        dataset: which of several evaluation sets, by the name that it was given; "" for the only one.
        around: what the framework itself puts before and after a metric's name in this event, to tell the set.
    """

    tier: Tier
    split: Split = "train"
    dataset: str = ""
    around: tuple[str, str] = ("", "")

    def spelled(self, name: str) -> str:
        """A metric's name as the framework has it."""
        return f"{self.around[0]}{name}{self.around[1]}"

    @property
    def prefix(self) -> str:
        """What the keys of this event begin with: `batch/`, `epoch/val/`, `epoch/val/<set>/`."""
        if self.tier == "batch":
            return "batch/"
        return f"epoch/{self.split}/{self.dataset}/" if self.dataset else f"epoch/{self.split}/"


BATCH = Where("batch")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of history, as it goes to every sink.

    Attributes:
        number: position among this run's rows, from 0.
        tier: which x-axis it belongs to.
        step: optimizer steps: the value of the row's axis key, and the lowest step a backend may file it under.
        time: seconds since the epoch (Unix time) when the row was opened.
        values: key to number; the axis keys are among them.
        origins: key to the name that the user or the framework logged it under, where there is one.
    """

    number: int
    tier: Tier
    step: int
    time: float
    values: Mapping[str, float | int]
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known of a run when it starts.

    Attributes:
        run_id: W&B run id, `[a-z0-9-]`.
        name: display name.
        framework: `lightning`, `huggingface`.
        root: folder that run folders are made in.
        started: Unix time in seconds.
        config: flat run config, `section/key` to a JSON value.
        world_size: ranks of the training.
        has_cuda: whether this rank computes on a CUDA device.
        device: this rank's device, as torch spells it; "" when unknown.
        monitor: the metric that the framework's own checkpointing or early stopping watches, by its logged name.
        goal: `min` or `max`, for `monitor`.
        samples, tokens: seen before this run started (a resumed training), over all ranks.
        foreign_run: the W&B run that another logger of the same training has opened, to be shared.
        earlier: what the run has recorded already, where this goes on with one.
        step: optimizer steps taken before this training (a resumed one); None for an evaluation.
    """

    run_id: str
    name: str
    framework: str
    root: Path
    started: float
    config: Mapping[str, Any] = field(default_factory=dict)
    world_size: int = 1
    has_cuda: bool = False
    device: str = ""
    monitor: str | None = None
    goal: str | None = None
    samples: int = 0
    tokens: int = 0
    foreign_run: Any = None
    earlier: Earlier | None = None
    step: int | None = None

    @property
    def folder(self) -> Path:
        """The run's own folder: `<root>/trackkit-runs/<run id>`."""
        return self.root / "trackkit-runs" / self.run_id
