"""Compares a run as recorded here with what the server has: what to send, and whether all has arrived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from trackkit.engine.records import Row
from trackkit.integrations.wandb.console import lines_there
from trackkit.local_log.strict import NOT_FINITE
from trackkit.schema.keys import AXES
from trackkit.sync.gather import Cell, Source, by_cell, cells
from trackkit.sync.server_run import ServerRun

# W&B's words for a run that has not ended yet, as far as it knows; "" for one that it does not know.
_OPEN = ("", "running", "crashed")
_EMPTY: tuple[Any, ...] = (None, {}, [])


class Stock:
    """Tracks the values that the server has, including those that `lacking` has found and that will be sent.

    Args:
        wanted: the values that it must have, by cell.
        rows: its history.
    """

    def __init__(self, wanted: Mapping[Cell, Sequence[Any]], rows: Sequence[Row]) -> None:
        self._wanted = wanted
        self._there = by_cell(rows)

    def lacking(self, row: Row) -> Row | None:
        """Returns a row with only the values to send, and its axes; None without any. Counts them as on the server."""
        found: dict[str, Any] = {}
        for cell, value in cells(row):
            there, wanted = self._there.get(cell), self._wanted.get(cell)
            if wanted is not None and not _holds(wanted, value):
                continue
            if there is None or (wanted is not None and len(there) < len(wanted) and not _holds(there, value)):
                found[cell[2]] = value
                self._there[cell].append(value)
        if not found:
            return None
        return replace(row, values={k: v for k, v in row.values.items() if k in found or k in AXES or k == "_runtime"})

    def differing(self) -> set[Cell]:
        """Returns the cells where the server has other values, which W&B cannot replace."""
        return {
            cell
            for cell, values in self._wanted.items()
            if (there := self._there.get(cell)) != values and not all(_holds(there or (), value) for value in values)
        }

    def doubled(self) -> set[Cell]:
        """Returns the cells where the server has more values than were recorded."""
        return {cell for cell, values in self._wanted.items() if len(self._there.get(cell, ())) > len(values)}


@dataclass(frozen=True)
class Lacking:
    """What the server lacks of a run.

    Attributes:
        rows: what to send, in order, each with only the values that the server lacks and its axes.
        differing: cells where it has other values.
        doubled: cells where it has a value more than once.
        summary, config: columns that it lacks, or has with another value.
        artifacts: digest to name of each artifact that is not COMMITTED.
        console: stream and text of the console's lines that it lacks. They do not make a run incomplete, since W&B
            keeps only a limited number.
        ends: whether it does not know yet that the run has ended.
        is_later: whether it has rows of a later attempt, recorded elsewhere, whose summary and end stay.
        stock: to compare rows with that are recorded meanwhile.
    """

    rows: Sequence[Row]
    differing: AbstractSet[Cell]
    doubled: AbstractSet[Cell]
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    artifacts: Mapping[str, str]
    console: Sequence[tuple[int, str]]
    ends: bool
    is_later: bool
    stock: Stock

    def __bool__(self) -> bool:
        """Returns whether there is anything to send."""
        return self.is_underway or bool(self.artifacts or self.console)

    @property
    def is_underway(self) -> bool:
        """Whether the server may still be about to show what was sent."""
        return bool(self.rows or self.summary or self.config or self.ends)

    def __str__(self) -> str:
        parts = {
            "console": self.console,
            "summary": self.summary,
            "config": self.config,
            "artifacts": self.artifacts,
            "end": self.ends,
        }
        return ", ".join([f"{len(self.rows)} rows"] * bool(self.rows) + [name for name, part in parts.items() if part])


def lacking(source: Source, server: ServerRun) -> Lacking:
    """Compares value by value: TrackKit's by axis, step and key, all others by time and key.

    Args:
        source: the run as recorded here.
        server: the run as the server has it.
    """
    stock = Stock(source.wanted, server.rows)
    rows = [part for row in source.rows if (part := stock.lacking(row)) is not None]
    is_later = _is_later(source, server)
    # What the server has of a later time stays.
    later = {key for row in server.rows if row.time > source.newest for key in row.values}
    kept = server.summary.keys() | server.config.keys() if is_later else later
    return Lacking(
        rows=rows,
        differing=stock.differing(),
        doubled=stock.doubled(),
        summary=lacking_columns(source.summary, server.summary, kept),
        config=lacking_columns(source.config, server.config, kept),
        artifacts={
            digest: name
            for file in source.files
            for digest, (name, _) in file.artifacts.items()
            if server.artifacts.get(digest) != "COMMITTED"
        },
        console=source.console[lines_there([text for _, text in source.console], server.console, server.last_line) :],
        ends=server.state in _OPEN and not is_later,
        is_later=is_later,
        stock=stock,
    )


def _is_later(source: Source, server: ServerRun) -> bool:
    """Returns whether the server has newer rows of ours, at steps that are not recorded here."""
    if source.local is None:
        return False
    places = {(row.tier, row.step) for row in source.local.rows}
    newer = (row for row in server.rows if row.time > source.newest)
    return any(
        f"{tier}/step" in row.values and (tier, row.values[f"{tier}/step"]) not in places
        for row in newer
        for tier in ("batch", "epoch")
    )


def lacking_columns(local: Mapping[str, Any], server: Mapping[str, Any], kept: AbstractSet[str]) -> dict[str, Any]:
    """Returns the columns that a server lacks or has with another value, without W&B's own (`_*`) and empty ones.

    Args:
        local: the columns recorded here.
        server: the server's.
        kept: columns that stay if the server has them.
    """
    return {
        key: value
        for key, value in local.items()
        if key[:1] != "_"
        and not same(server.get(key), value)
        and (key not in kept if key in server else value not in _EMPTY)
    }


def _holds(values: Iterable[Any], value: Any) -> bool:
    """Returns whether `values` has this value. Any two pictures, tables and the like count as the same."""
    return value in values or any(
        (isinstance(each, Mapping) and isinstance(value, Mapping)) or same(each, value) for each in values
    )


def same(a: Any, b: Any) -> bool:
    """Returns whether two values are equal as JSON: NaN is NaN, 1 is 1.0, integers beyond 2**53 are rounded."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return all(same(a.get(key), b.get(key)) or a.get(key) in _EMPTY for key in {*a, *b})
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    a, b = (NOT_FINITE.get(each, each) if isinstance(each, str) else each for each in (a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return float(a) == float(b) or (a != a and b != b)
    return bool(a == b)
