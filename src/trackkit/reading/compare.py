"""Compares runs, or groups of runs: what differs, and how their metrics, time, memory and cost compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError
from trackkit.reading.collection import Runs
from trackkit.reading.columns import facts
from trackkit.reading.curves import at_steps, curve, main_keys
from trackkit.reading.differences import varying
from trackkit.reading.statistics import MeanDifference, Sample, mean_difference, sample
from trackkit.record.git import changed_files, commits_between
from trackkit.schema.goals import Goal, direction

_STEPS = 4
# Time and memory: the mean of a run over its rows. The first rows have the warm-up.
_RATES = ("batch/step_time_s", "batch/data_time_s", "batch/samples_per_s", "batch/tokens_per_s")
_PEAKS = ("device/gpu_mem_peak_reserved_GB", "device/rss_GB")
_BILL = ("final/duration_h", "final/gpu_hours", "final/energy_kWh", "final/cost_usd")
_WARM_UP = 0.1


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
        """The place of the best side; None without a goal, or without two sides that have the number."""
        found = [(each.mean, place) for place, each in enumerate(self.samples) if each.n]
        if self.goal is None or len({mean for mean, _ in found}) < 2:
            return None
        return (min(found) if self.goal == "min" else max(found))[1]


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds.

    Attributes:
        sides: what was compared.
        config: key to the value of each side, for what differs between them; several values of a side as a list.
        commits: the commits of each side, short.
        log: commits between the first two sides' commits, newest first; empty where the repository is not at hand.
        files: files that differ between them.
        measures: the numbers.
        notes: what could not be compared, and why.
    """

    sides: tuple[Side, ...]
    config: Mapping[str, tuple[Any, ...]]
    commits: tuple[tuple[str, ...], ...]
    log: tuple[str, ...]
    files: tuple[str, ...]
    measures: tuple[Measure, ...]
    notes: tuple[str, ...]


def side(name: str, runs: Runs) -> Side:
    """Returns a side of a comparison.

    Raises:
        ReadError: none of the runs can be read.
    """
    good = [run for run in runs if run.status != "damaged"]
    if not good:
        raise ReadError(f"'{name}' has no run that can be read")
    return Side(name, Runs(good), Runs(run for run in runs if run.status == "damaged"))


def compare(sides: Sequence[Side], keys: Sequence[str] | None = None, repository: Path | None = None) -> Comparison:
    """Compares two or more sides.

    Args:
        sides: what to compare; the first is what the others are compared with.
        keys: metrics to compare, as `RecordedRun.series` takes them. Default: the main ones.
        repository: where the code's git repository is, for what changed between commits. Default: here.

    Raises:
        ReadError: fewer than two sides, or no run has one of the keys.
    """
    if len(sides) < 2:
        raise ReadError("to compare takes two runs or groups; give one more")
    everyone = [run for each in sides for run in each.runs]
    wanted = [_key(everyone, key) for key in keys] if keys else main_keys(everyone, 5, results=True)
    commits = tuple(_values(each.runs, "git/commit") for each in sides)
    first, second = commits[0][-1:], commits[1][-1:]
    log, files = [], []
    if first and second and first != second:
        place = repository or Path.cwd()
        log, files = commits_between(place, first[0], second[0]), changed_files(place, first[0], second[0])
    measures = [*_metrics(sides, wanted), *_resources(sides)]
    return Comparison(
        sides=tuple(sides),
        config=_config(sides, everyone),
        commits=tuple(tuple(commit[:7] for commit in each) for each in commits),
        log=tuple(log),
        files=tuple(files),
        measures=tuple(each for each in measures if any(found.n for found in each.samples)),
        notes=tuple(_notes(sides, wanted, bool(first and second and first != second and not log and not files))),
    )


def _config(sides: Sequence[Side], everyone: Sequence[RecordedRun]) -> dict[str, tuple[Any, ...]]:
    """Returns what differs between the sides; what differs within all of them, such as the seed, comes last."""
    found = {key: tuple(_one(_values(each.runs, key)) for each in sides) for key in varying(everyone)}
    accidents = ("seed/", "runtime/", "env/")
    shown = {key: each for key, each in found.items() if not key.startswith("git/") and len(set(map(str, each))) > 1}
    # The optimizer's settings repeat hyperparameters.
    twice = {f"optim/{key.removeprefix('hparams/')}" for key, each in shown.items() if key.startswith("hparams/")}
    order = sorted(shown, key=lambda key: (key.startswith(accidents), key))
    return {key: shown[key] for key in order if not (key in twice and shown[key] == shown[f"hparams/{key[6:]}"])}


def _values(runs: Runs, key: str) -> tuple[Any, ...]:
    """Returns the values of a key in the runs, each once, in order of the runs."""
    found = {str(value): value for run in runs if (value := run.config.get(key)) is not None}
    return tuple(found.values())


def _one(values: tuple[Any, ...]) -> Any:
    return None if not values else values[0] if len(values) == 1 else list(values)


def _metrics(sides: Sequence[Side], keys: Sequence[str]) -> list[Measure]:
    """Returns, for each metric, its last and best value, and its value at equal steps."""
    found = []
    for key in keys:
        curves = [[curve(run, key).finite for run in each.runs if key in run.keys] for each in sides]
        for step in _equal_steps([of for each in curves for of in each]):
            values = [[float(at_steps(of, [step])[0]) for of in each] for each in curves]
            found.append(_measure(f"{key} at step {step:g}", key, values))
        found.append(_measure(f"{key} last", key, [[float(of.y[-1]) for of in each if len(of)] for each in curves]))
        goal = direction(key)
        if goal is not None and key.startswith("epoch/val/"):
            best = [[float(of.y.min() if goal == "min" else of.y.max()) for of in each if len(of)] for each in curves]
            found.append(_measure(f"{key} best", key, best))
    return found


def _equal_steps(curves: Sequence[Any]) -> list[float]:
    """Returns a few steps that every curve has reached, evenly spread; not the last one of all, which is `last`."""
    reached = [(of.x.min(), of.x.max()) for of in curves if len(of)]
    if not reached:
        return []
    low, high = max(first for first, _ in reached), min(last for _, last in reached)
    if high < low:
        return []
    steps = np.unique(np.linspace(low, high, _STEPS).round())
    all_end_there = all(last == high for _, last in reached)
    return [float(step) for step in (steps[:-1] if all_end_there else steps)]


def _resources(sides: Sequence[Side]) -> list[Measure]:
    """Returns time and memory per step, and the bill."""
    found = []
    for key in _RATES:
        goal: Goal = "max" if key.endswith("_per_s") else "min"
        found.append(_measure(key, key, [[_mean(run, key) for run in each.runs] for each in sides], goal))
    for key in _PEAKS:
        found.append(_measure(f"{key} peak", key, [[_peak(run, key) for run in each.runs] for each in sides], "min"))
    for key in _BILL:
        found.append(_measure(key, key, [[run.summary.get(key) for run in each.runs] for each in sides], "min"))
    found.append(_measure("steps", "", [[facts(run).get("steps") for run in each.runs] for each in sides]))
    return found


def _mean(run: RecordedRun, key: str) -> float | None:
    of = curve(run, key).finite if key in run.keys else None
    if of is None or not len(of):
        return None
    return float(of.y[int(len(of) * _WARM_UP) :].mean())


def _peak(run: RecordedRun, key: str) -> float | None:
    of = curve(run, key).finite if key in run.keys else None
    return float(of.y.max()) if of is not None and len(of) else None


def _measure(name: str, key: str, values: Sequence[Sequence[Any]], goal: Goal | None = None) -> Measure:
    samples = tuple(map(sample, values))
    differences = (None, *(mean_difference(samples[0], other) for other in samples[1:]))
    return Measure(name, goal or (direction(key) if key else None), samples, differences)


def _key(runs: Sequence[RecordedRun], word: str) -> str:
    """Returns the key that a word means in the first run that has it.

    Raises:
        ReadError: no run has it; says what is near it.
    """
    problem: ReadError | None = None
    for run in runs:
        try:
            return run.find_key(word)
        except ReadError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _notes(sides: Sequence[Side], keys: Sequence[str], no_repository: bool) -> list[str]:
    notes = [f"left out, damaged: {run.run_id} ({run.run.get('error', '')})" for each in sides for run in each.left_out]
    notes += [f"still running: {run.run_id}" for each in sides for run in each.runs if run.status == "running"]
    common = [key for key in keys if all(any(key in run.keys for run in each.runs) for each in sides)]
    if not common:
        notes.append("no metric is recorded on all sides")
    for key in common:
        reached = [max((curve(run, key).x.max() for run in each.runs if key in run.keys), default=0) for each in sides]
        if max(reached) > 1.1 * min(reached):
            steps = ", ".join(f"{step:g}" for step in reached)
            notes.append(f"{key} reaches different steps ({steps}): compare it at equal steps")
    if no_repository:
        notes.append("what changed between the commits is not known: the repository is not in this folder")
    return notes
