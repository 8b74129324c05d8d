"""Compares runs, or groups of runs: what differs, and how their metrics, time, memory and cost compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError
from trackkit.reading.collection import Runs
from trackkit.reading.columns import facts
from trackkit.reading.comparison import Comparison, Measure, Side
from trackkit.reading.curves import Curve, Curves, at_steps, main_keys
from trackkit.reading.differences import varying
from trackkit.reading.statistics import mean_difference, sample
from trackkit.record.git import changed_files, commits_between
from trackkit.schema.goals import Goal, direction

# Metric to the finite curves of the runs of each side; empty for a run without it.
Compared = Mapping[str, Sequence[Sequence[Curve]]]

_STEPS = 4
_METRICS, _MOST_KEYS = 6, 1000
# How much longer one curve must be than another to say so.
_LONGER = 1.1
# Time and memory: the mean of a run over its rows. The first rows have the warm-up.
_RATES = ("batch/step_time_s", "batch/data_time_s", "batch/samples_per_s", "batch/tokens_per_s")
_PEAKS = ("device/gpu_mem_peak_reserved_GB", "device/rss_GB")
_BILL = ("final/duration_h", "final/gpu_hours", "final/energy_kWh", "final/cost_usd")
_WARM_UP = 0.1


def side(name: str, runs: Runs) -> Side:
    """Returns a side of a comparison.

    Raises:
        ReadError: none of the runs can be read.
    """
    good = [run for run in runs if run.status != "damaged"]
    if not good:
        why = f": {runs[0].run.get('error', '')}" if runs else ""
        raise ReadError(f"'{name}' has no run that can be read{why}")
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
    known = main_keys(everyone, _MOST_KEYS, results=True)
    wanted = [_key(everyone, key) for key in keys] if keys else known[:_METRICS]
    log, files = _code(sides, repository or Path.cwd())
    read = [[Curves(run) for run in each.runs] for each in sides]
    curves = {key: [[of.curve(key).finite for of in each] for each in read] for key in wanted}
    measures = [*_metrics(curves), *_resources(sides, read)]
    notes = [*_about_runs(sides), *_about_curves(curves), *_about_code(sides, bool(log or files))]
    if not keys and len(known) > _METRICS:
        notes.append(f"not compared, for brevity: {', '.join(known[_METRICS:])}")
    return Comparison(
        sides=tuple(sides),
        keys=tuple(wanted),
        config=_config(sides, everyone),
        commits=tuple(_commits(each.runs) for each in sides),
        log=tuple(log),
        files=tuple(files),
        measures=tuple(each for each in measures if any(found.n for found in each.samples)),
        notes=tuple(notes),
    )


def overlay(side: Side, key: str) -> Curve:
    """Returns the curve of a side: its run's, or the mean of its runs at the steps that all of them have reached.

    Args:
        side: the side.
        key: whole. Runs without it are left out; empty where no run has it.
    """
    curves = [found for run in side.runs if len(found := Curves(run).curve(key).finite)]
    if len(curves) < 2:
        return curves[0] if curves else Curve(key, np.empty(0), np.empty(0))
    steps = np.unique(np.concatenate([of.x for of in curves]))
    steps = steps[(steps >= max(of.x.min() for of in curves)) & (steps <= min(of.x.max() for of in curves))]
    return Curve(key, steps, np.mean([at_steps(of, steps) for of in curves], axis=0))


def _code(sides: Sequence[Side], repository: Path) -> tuple[list[str], list[str]]:
    """Returns commits and files between the last commits of the first two sides; empty if that is not known."""
    before, after = (str(each.runs[-1].config.get("git/commit") or "") for each in sides[:2])
    if not before or not after or before == after:
        return [], []
    return commits_between(repository, before, after), changed_files(repository, before, after)


def _commits(runs: Runs) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found for run in runs if (found := facts(run).get("commit"))))


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


def _metrics(curves: Compared) -> list[Measure]:
    """Returns, for each metric, its value at equal steps, its last, and its best value."""
    found = []
    for key, sides in curves.items():
        for step in _equal_steps([of for each in sides for of in each]):
            values = [[float(at_steps(of, [step])[0]) for of in each] for each in sides]
            found.append(_measure(f"{key} at step {step:g}", key, values))
        found.append(_measure(f"{key} last", key, [[float(of.y[-1]) for of in each if len(of)] for each in sides]))
        goal = direction(key)
        if goal is not None and key.startswith("epoch/val/"):
            best = [[float(of.y.min() if goal == "min" else of.y.max()) for of in each if len(of)] for each in sides]
            found.append(_measure(f"{key} best", key, best))
    return found


def _equal_steps(curves: Sequence[Curve]) -> list[float]:
    """Returns a few steps that every curve has reached, evenly spread, each with new values; not where all end."""
    curves = [of for of in curves if len(of)]
    low = max((of.x.min() for of in curves), default=1.0)
    high = min((of.x.max() for of in curves), default=0.0)
    if high < low:
        return []
    ends = tuple(len(of) for of in curves)
    # A step without a new point on any curve shows what the step before it has shown.
    found: dict[tuple[int, ...], float] = {}
    for step in np.unique(np.linspace(low, high, _STEPS).round()):
        places = tuple(int(np.searchsorted(of.x, step, side="right")) for of in curves)
        if all(places) and places != ends:
            found.setdefault(places, float(step))
    return list(found.values())


def _resources(sides: Sequence[Side], read: Sequence[Sequence[Curves]]) -> list[Measure]:
    """Returns time and memory per step, and the bill."""
    found = []
    for key in _RATES:
        goal: Goal = "max" if key.endswith("_per_s") else "min"
        found.append(_measure(key, key, [[_mean(of, key) for of in each] for each in read], goal))
    for key in _PEAKS:
        found.append(_measure(f"{key} peak", key, [[_peak(of, key) for of in each] for each in read], "min"))
    for key in _BILL:
        found.append(_measure(key, key, [[run.summary.get(key) for run in each.runs] for each in sides], "min"))
    found.append(_measure("steps", "", [[facts(run).get("steps") for run in each.runs] for each in sides]))
    return found


def _mean(curves: Curves, key: str) -> float | None:
    of = curves.curve(key).finite
    return float(of.y[int(len(of) * _WARM_UP) :].mean()) if len(of) else None


def _peak(curves: Curves, key: str) -> float | None:
    of = curves.curve(key).finite
    return float(of.y.max()) if len(of) else None


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


def _about_runs(sides: Sequence[Side]) -> Iterator[str]:
    for each in sides:
        for run in each.left_out:
            yield f"left out, damaged: {run.run_id} ({run.run.get('error', '')})"
        for run in each.runs:
            if run.status == "running":
                yield f"still running: {run.run_id}"
            elif run.status in ("failed", "preempted"):
                yield f"{run.status}: {run.run_id}; counted as far as it got"


def _about_curves(curves: Compared) -> Iterator[str]:
    common = {key: sides for key, sides in curves.items() if all(any(map(len, each)) for each in sides)}
    if not common:
        yield "no metric has numbers on all sides"
    for key, sides in common.items():
        reached = [max(of.x.max() for of in each if len(of)) for each in sides]
        if max(reached) > _LONGER * min(reached):
            steps = ", ".join(f"{step:g}" for step in reached)
            yield f"{key} reaches different steps ({steps}): compare it at equal steps"


def _about_code(sides: Sequence[Side], is_known: bool) -> Iterator[str]:
    commits = [_commits(each.runs) for each in sides]
    if any(commit.endswith("*") for each in commits for commit in each):
        yield "code with uncommitted changes (*) may differ beyond its commit"
    first, second = ({commit.rstrip("*") for commit in each[-1:]} for each in commits[:2])
    if first and second and first != second and not is_known:
        yield "what changed between the commits is not known: the repository is not in this folder"
