"""Which rows of a local log a server has: compared by their axis and their values, never by W&B's own step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackkit.local_log.reader import NOT_FINITE
from trackkit.schema.keys import AXES

# An axis key and the value there.
Place = tuple[str, int]
STEPS = ("batch/step", "epoch/step")


@dataclass(frozen=True, slots=True)
class Expected:
    """A row that W&B must have.

    Attributes:
        axis: its axis key.
        step: the value there, optimizer steps.
        time: Unix time in seconds.
        values: what W&B must have, axis keys included.
        made_in: the pass that made it.
    """

    axis: str
    step: int
    time: float
    values: Mapping[str, Any]
    made_in: int = 1


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
            rows.append(Expected(axis, step, float(line["_time"]), {**axes, **values}, current))
        for key in line:
            if key[0] != "_":
                highest[key] = max(step, highest.get(key, -1))
    return rows


def compare(expected: Sequence[Expected], rows: Iterable[Mapping[str, Any]]) -> Comparison:
    """Looks for each expected row among a server's."""
    found, wanted = Places(rows), Places(row.values for row in expected)
    missing, twice = [], []
    for each in expected:
        place = (each.axis, each.step)
        named = [key for key in each.values if key not in AXES]
        if not all(found.has(place, key, each.values[key]) for key in named):
            missing.append(each)
        elif any(found.count(place, key) > wanted.count(place, key) for key in named):
            twice.append(each)
    return Comparison(len(expected) - len(missing), missing, twice)


class Places:
    """Rows by where they stand: an axis and the value there."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._rows: dict[Place, list[Mapping[str, Any]]] = defaultdict(list)
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes one more row."""
        for axis in STEPS:
            if axis in row:
                self._rows[axis, row[axis]].append(row)

    def __contains__(self, place: Place) -> bool:
        return place in self._rows

    def has(self, place: Place, key: str, value: Any) -> bool:
        """Whether a row at this place has the value."""
        # Most are equal as they are, and there are many.
        return any(key in row and (row[key] == value or same(row[key], value)) for row in self._rows.get(place, ()))

    def count(self, place: Place, key: str) -> int:
        """How many rows at this place have the key, whatever its value."""
        return sum(key in row for row in self._rows.get(place, ()))


def lacking_columns(local: Mapping[str, Any], server: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a config or a summary that a server lacks, or has otherwise; W&B keeps no empty ones."""
    return {
        key: value
        for key, value in local.items()
        if not same(server.get(key), value) and not (value in (None, {}, []) and key not in server)
    }


def same(a: Any, b: Any) -> bool:
    """Whether two values are one: NaN is NaN, 1 is 1.0, and integers beyond 2**53 are what a float keeps of them."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return all(same(a.get(key), b.get(key)) or a.get(key) in (None, {}, []) for key in {*a, *b})
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    a, b = (NOT_FINITE.get(each, each) if isinstance(each, str) else each for each in (a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return float(a) == float(b) or (a != a and b != b)
    return bool(a == b)
