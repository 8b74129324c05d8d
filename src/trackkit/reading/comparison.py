"""What a comparison of runs consists of, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trackkit.reading.collection import Runs
from trackkit.reading.statistics import MeanDifference, Sample
from trackkit.schema.goals import Goal


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a run, or a group of runs.

    Attributes:
        name: as shown.
        runs: its runs; those that are damaged are left out.
        left_out: those.
    """

    name: str
    runs: Runs
    left_out: Runs = field(default_factory=lambda: Runs(()))


@dataclass(frozen=True)
class Measure:
    """One number of each side.

    Attributes:
        name: what it is: `val/loss`, `val/loss best`, `val/loss at step 100`, `step_time_s`.
        goal: whether less or more is better; None where that is not known.
        samples: of each side.
        differences: of each side from the first; the first's is None.
    """

    name: str
    goal: Goal | None
    samples: tuple[Sample, ...]
    differences: tuple[MeanDifference | None, ...]

    @property
    def best(self) -> int | None:
        """The place of the best side; None without a goal, or where it is not known to be better than the first."""
        found = [(each.mean, place) for place, each in enumerate(self.samples) if each.n]
        if self.goal is None or len(found) < 2:
            return None
        place = (min(found) if self.goal == "min" else max(found))[1]
        compared = self.differences[1:] if place == 0 else [self.differences[place]]
        return place if any(each is not None and each.is_apart for each in compared) else None


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds.

    Attributes:
        sides: what was compared.
        keys: the metrics that were compared.
        config: key to the value of each side, for what differs between them; several values of a side as a list.
        commits: the commits of each side, short; `*` behind one: with uncommitted changes.
        log: commits between the first two sides' commits, newest first, `+` only the second has, `-` only the first;
            empty where the repository is not at hand.
        files: files that differ between them.
        measures: the numbers.
        notes: what could not be compared, and why.
    """

    sides: tuple[Side, ...]
    keys: tuple[str, ...]
    config: Mapping[str, tuple[Any, ...]]
    commits: tuple[tuple[str, ...], ...]
    log: tuple[str, ...]
    files: tuple[str, ...]
    measures: tuple[Measure, ...]
    notes: tuple[str, ...]
