"""Which rows of a local log a server has: compared by their axis and their values, never by W&B's own step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

AXES = frozenset({"batch/step", "batch/epoch", "batch/iter_num", "epoch/step", "epoch/epoch"})


@dataclass(frozen=True, slots=True)
class Expected:
    """A row that W&B must have.

    Attributes:
        axis: its axis key.
        step: the value there, optimizer steps.
        time: Unix time in seconds.
        values: what W&B must have, axis keys included.
    """

    axis: str
    step: int
    time: float
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The outcome for all rows: how many are there, and which are not, or more than once."""

    present: int
    missing: Sequence[Expected]
    twice: Sequence[Expected]


def expected_rows(history: Iterable[Mapping[str, Any]]) -> list[Expected]:
    """The rows of a local log that W&B must have.

    Of the steps that a resumed training takes again W&B keeps the first pass, since its history can't be replaced: a
    value counts where its key had not been recorded at that step, or above, by an earlier pass.
    """
    before: dict[str, int] = {}
    highest: dict[str, int] = {}
    rows: list[Expected] = []
    current = 1
    for line in history:
        if line.get("_pass", 1) != current:
            current, before = line["_pass"], dict(highest)
        axis = "epoch/step" if "epoch/step" in line else "batch/step"
        if axis not in line:
            continue
        step = int(line[axis])
        values = {key: value for key, value in line.items() if key[0] != "_" and step > before.get(key, -1)}
        if values.keys() - AXES:
            axes = {key: line[key] for key in AXES if key in line}
            rows.append(Expected(axis, step, float(line["_time"]), {**axes, **values}))
        for key in line:
            if key[0] != "_":
                highest[key] = max(step, highest.get(key, -1))
    return rows


def compare(expected: Sequence[Expected], rows: Iterable[Mapping[str, Any]]) -> Comparison:
    """Looks for each expected row among a server's."""
    found: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        for axis in ("batch/step", "epoch/step"):
            if axis in row:
                found[axis, row[axis]].append(row)
    wanted: Counter[tuple[str, int, str]] = Counter()
    for each in expected:
        for key in each.values.keys() - AXES:
            wanted[each.axis, each.step, key] += 1
    missing, twice = [], []
    for each in expected:
        candidates = found.get((each.axis, each.step), [])
        named = [key for key in each.values if key not in AXES]
        if not all(any(same(row.get(key), each.values[key]) for row in candidates) for key in named):
            missing.append(each)
        elif len(candidates) > 1 and any(
            sum(key in row for row in candidates) > wanted[each.axis, each.step, key] for key in named
        ):
            twice.append(each)
    return Comparison(len(expected) - len(missing), missing, twice)


def lacking_columns(local: Mapping[str, Any], server: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a config or a summary that a server lacks, or has otherwise."""
    return {key: value for key, value in local.items() if not same(server.get(key), value)}


def same(a: Any, b: Any) -> bool:
    """Whether two values are one: NaN is NaN, 1 is 1.0, a nested mapping is compared key by key."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (a != a and b != b) or (isinstance(a, float) and str(a) == str(b).lower())
