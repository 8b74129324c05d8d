"""Describes a run at its start: what the adapter knows (`Start`), and the run once it is opened (`RunInfo`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trackkit.engine.attempts import counted
from trackkit.engine.records import Row

Status = Literal["running", "finished", "failed", "stopped", "preempted"]


@dataclass(frozen=True)
class Start:
    """What an adapter knows when a fit or an evaluation starts.

    Attributes:
        framework: `lightning`, `huggingface`, ...
        package: distribution whose version is recorded.
        output: the trainer's own output folder.
        phase: `fit`, `validate`, `test` or `predict`.
        config: the framework's part of the run config, `section/key` to a JSON value.
        faults: parts of the description that failed: what, and the error.
        hparams: the user's hyperparameters, flat, without their section.
        name: display name given to the framework; "" for none.
        version: the framework's version of this experiment; "" for none.
        device: this rank's device, as torch spells it; "" when unknown.
        monitor: logged name of the metric that the framework's checkpointing or early stopping watches.
        goal: `min` or `max`, for `monitor`.
        samples, tokens: seen before this training, over all ranks.
        trained_h: hours of training before this one, which other runs have recorded.
        foreign_run: the W&B run that another logger of the same training opened, to be shared.
        step: optimizer steps taken so far.
        checkpoint: the checkpoint's fields about its run; empty if it has none, None without a checkpoint.
        again: whether the framework restarts a fit of this process that has taken no step.
        group: of runs that belong together, unless the settings give one; "" for none.
        logs_only: whether only what the program logs is known, on this rank: no batch, no gradient, no other rank.
    """

    framework: str
    package: str
    output: Path
    phase: str
    config: Mapping[str, Any] = field(default_factory=dict)
    faults: Sequence[tuple[str, Exception]] = ()
    hparams: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    version: str = ""
    device: str = ""
    monitor: str | None = None
    goal: str | None = None
    samples: int = 0
    tokens: int = 0
    trained_h: float = 0.0
    foreign_run: Any = None
    step: int = 0
    checkpoint: Mapping[str, Any] | None = None
    again: bool = False
    group: str = ""
    logs_only: bool = False

    @property
    def is_fit(self) -> bool:
        """Whether training starts, rather than an evaluation of its own."""
        return self.phase == "fit"

    @property
    def has_cuda(self) -> bool:
        """Whether this rank computes on a CUDA device."""
        return self.device.startswith("cuda")

    def seen(self, earlier: History | None = None) -> tuple[int, int]:
        """Returns samples and tokens seen before this training, over all ranks.

        Uses the framework's own count, else the checkpoint's, else that of the last row at or below the start's step.

        Args:
            earlier: what earlier attempts recorded.
        """
        if self.samples or self.tokens:
            return self.samples, self.tokens
        carried = self.checkpoint or {}
        samples, tokens = carried.get("samples"), carried.get("tokens")
        if isinstance(samples, int) and isinstance(tokens, int):
            return samples, tokens
        last: dict[str, float | int] = {}
        for row in earlier.up_to(self.step) if earlier is not None else ():
            last.update(row.values)
        return int(last.get("batch/samples", 0)), int(last.get("batch/tokens", 0))


@dataclass(frozen=True, slots=True)
class History:
    """What earlier attempts recorded of a run that is resumed.

    Attributes:
        root: output folder that its run folder lies in.
        rows: all rows of the local log, in order, of every attempt.
        attempts: number of processes that have written to it.
        summary: its columns so far.
        elapsed_h: hours of training in earlier attempts.
        name: display name; "" if unknown.
        started: Unix time in seconds; 0.0 if unknown.
        exit_code: of its last process; None if that did not close the run.
    """

    root: Path
    rows: Sequence[Row] = ()
    attempts: int = 0
    summary: Mapping[str, Any] = field(default_factory=dict)
    elapsed_h: float = 0.0
    name: str = ""
    started: float = 0.0
    exit_code: int | None = None

    def fit_ended(self) -> tuple[Status, int] | None:
        """Returns the status and exit code of its last fit; None if there was no fit."""
        if "final/steps" in self.summary:
            status: Status = self.summary.get("final/status", "failed")
            failed = status in ("failed", "preempted")
            return status, int(failed) if self.exit_code is None else self.exit_code
        # A killed process leaves rows, but no status.
        return ("failed", 1) if any(row.tier == "batch" and row.step for row in self.rows) else None

    def up_to(self, step: float = math.inf) -> list[Row]:
        """Returns the rows of the training up to `step`, of repeated steps the later attempt's.

        Leaves out attempts that only evaluated.
        """
        trained = {row.attempt for row in self.rows if row.tier == "batch"}
        return counted([row for row in self.rows if row.step <= step and row.attempt in trained], "later")


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run as it is opened.

    Attributes:
        run_id: W&B run id, `[a-z0-9-]`.
        name: display name.
        root: output folder that its run folder lies in.
        folder: the run's own folder.
        backends: folder for other backends' files, such as W&B's `wandb`.
        started: Unix time in seconds.
        config: flat run config, `section/key` to a JSON value, secrets masked.
        world_size: ranks of the training.
        start: what the adapter knows; its `samples` and `tokens` are those of the resumed training.
        earlier: what earlier attempts recorded; None for a new run.
    """

    run_id: str
    name: str
    root: Path
    folder: Path
    backends: Path
    started: float
    start: Start
    config: Mapping[str, Any] = field(default_factory=dict)
    world_size: int = 1
    earlier: History | None = None
