"""Which rows of a local log a server has: compared by their axis and their values, never by W&B's own step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackkit.reading import NOT_FINITE
from trackkit.schema import AXES


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


def addable_rows(
    history: Iterable[Mapping[str, Any]],
    server: Sequence[Mapping[str, Any]],
    kept: Sequence[Mapping[str, Any]],
    below: float,
) -> list[dict[str, Any]]:
    """Rows of a local log that no W&B file has and that still can go to the server, each with W&B's step for it.

    They must lie behind the last of our rows that the server has, since W&B takes nothing in between.

    Args:
        history: the local log.
        server: the server's history.
        kept: the history in W&B's own files.
        below: the first step of the file that comes next.
    """
    expected = expected_rows(history)
    absent = {id(row) for row in compare(expected, server).missing}
    last = max((number for number, row in enumerate(expected) if id(row) not in absent), default=-1)
    step = max((row["_step"] for row in server), default=-1)
    rows: list[dict[str, Any]] = []
    taken: set[str] | None = None
    for row in compare(expected[last + 1 :], [*server, *kept]).missing:
        # As the tracker writes them: rows of one step are merged where they can be.
        if row.step > step or taken is None or taken & row.values.keys():
            step, taken = max(step + 1, row.step), set()
        if step >= below:
            break
        taken |= row.values.keys()
        rows.append({"axis": row.axis, "step": row.step, "at": step, "time": row.time, "values": dict(row.values)})
    return rows


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
