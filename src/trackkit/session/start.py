"""What an adapter knows when a run starts: the value that every framework's description is made into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackkit.session.resume import Earlier


@dataclass(frozen=True)
class Start:
    """What an adapter knows when a run starts.

    Attributes:
        framework: as in `RunInfo`.
        package: distribution whose version is recorded.
        output: the trainer's own output folder.
        phase: `fit`, `validate`, `test` or `predict`.
        config: the framework's part of the run config.
        faults: what could not be had of it, in words, and why.
        hparams: the user's hyperparameters, flat, without their section.
        name: display name that the framework was given; "" for none.
        version: the framework's version of this experiment; "" for none.
        device: as torch spells it.
        monitor, goal, samples, tokens, foreign_run: as in `RunInfo`.
        step: optimizer steps taken so far.
        checkpoint: what the checkpoint that the training goes on from says of its run: empty where it says nothing,
            None where there is no checkpoint.
        again: whether a fit of this process was broken off by the framework, which begins it anew in the same run.
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
    foreign_run: Any = None
    step: int = 0
    checkpoint: Mapping[str, Any] | None = None
    again: bool = False

    def seen(self, earlier: Earlier | None = None) -> tuple[int, int]:
        """Samples and tokens before this training, over all ranks.

        The framework's own count, else the checkpoint's; where that has none, as those of older TrackKits, the count of
        the last row that the training goes on from.

        Args:
            earlier: what the run has recorded already.
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
