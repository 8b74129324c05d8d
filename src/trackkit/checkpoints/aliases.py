"""Which aliases each checkpoint's version is to have: a state computed from the ledger, whatever was uploaded when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from trackkit.checkpoints.entry import PRESENT, Entry, State

LATEST, BEST, WAS_BEST = "latest", "best", "was-best"


def wanted(entries: Iterable[Entry], states: frozenset[State] = PRESENT) -> dict[int, tuple[str, ...]]:
    """Returns the number of each present entry to its aliases.

    `latest` is the newest save, `best` the best by the monitored metric (never NaN; of equal ones the first) and
    `was-best` the one that was best before it: each once in a collection. `step-N` is the newest save of that step.
    What a promotion gave to an entry is among them.

    Args:
        entries: of a run, in any order.
        states: of the entries that count; by default those that a server has or may still get.
    """
    found: dict[int, list[str]] = {}
    for group in collections(each for each in entries if each.complete and each.state in states).values():
        for entry in group:
            found[entry.number] = []
        found[group[-1].number].append(LATEST)
        for alias, holder in zip((BEST, WAS_BEST), reversed(records(group)), strict=False):
            found[holder.number].append(alias)
        for alias, number in {alias: each.number for each in group for alias in _own(each)}.items():
            found[number].append(alias)
    return {number: tuple(dict.fromkeys(aliases)) for number, aliases in found.items()}


def records(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries of one collection that were the best when they were saved, the best last.

    Values of another metric than the newest's can't be compared with it: they give way to its own.
    """
    found = sorted((each for each in entries if has_value(each)), key=lambda each: each.number)
    newest = _metric(found[-1]) if found else None
    best: list[Entry] = []
    for entry in sorted(found, key=lambda each: _metric(each) == newest):
        if not best or _beats(entry, best[-1]):
            best.append(entry)
    return best


def best(entries: Iterable[Entry]) -> list[Entry]:
    """Returns the best present entry of each collection that has one, in the order of the collections."""
    groups = collections(each for each in entries if each.is_present).values()
    return [found[-1] for group in groups if (found := records(group))]


def collections(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Returns collection to its entries, both in the order in which they were saved."""
    found: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda each: each.number):
        found.setdefault(entry.collection, []).append(entry)
    return found


def _own(entry: Entry) -> tuple[str, ...]:
    return (f"step-{entry.step}", *entry.promoted)


def has_value(entry: Entry) -> bool:
    """Returns whether an entry can be best."""
    return entry.value is not None and not math.isnan(entry.value) and entry.goal in ("min", "max")


def _metric(entry: Entry) -> tuple[str, str]:
    return entry.metric, entry.goal


def _beats(entry: Entry, other: Entry) -> bool:
    assert entry.value is not None
    assert other.value is not None
    if _metric(entry) != _metric(other):
        return True
    return entry.value < other.value if entry.goal == "min" else entry.value > other.value
