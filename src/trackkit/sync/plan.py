"""What of a run is to be sent, and where: decided by what stands at a place of an axis, never by W&B's step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackkit.integrations.wandb.files import own_keys
from trackkit.schema.keys import AXES
from trackkit.sync.added import LogRow
from trackkit.sync.compare import STEPS, Expected, Place, Places
from trackkit.sync.fragment import Fragment, moment, moments
from trackkit.sync.rest import Part
from trackkit.sync.server_run import ServerRun

# A file's number, and that of a row in it.
Spot = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """What a server lacks of a run.

    Attributes:
        parts: of each W&B file.
        tail: rows of the local log that no file has, and that go behind all that the files bring.
    """

    parts: Sequence[Part]
    tail: Sequence[LogRow]


def plan(
    expected: Sequence[Expected],
    fragments: Sequence[Fragment],
    server: ServerRun,
    epoch_axis: str = "step",
    live_pass: int | None = None,
) -> Plan:
    """Finds what is to be sent. A row that no file has goes in front of the next of the local log that a file brings.

    Args:
        expected: the rows of the local log.
        fragments: the run's W&B files, in order.
        server: what the server has.
        epoch_axis: `step` or `epoch`.
        live_pass: the pass that is still being written, into the last file, which will bring its rows.
    """
    stock = _Stock(expected, fragments, server)
    lacking = [[stock.take(row) for row in each.usable_rows] for each in fragments]
    spots = _spots(fragments, lacking)
    added: list[dict[int, list[LogRow]]] = [{} for _ in fragments]
    waiting: list[LogRow] = []
    for row in expected:
        if row.made_in != live_pass and (keys := stock.take(row.values, row.axis)):
            values = {key: value for key, value in row.values.items() if key in keys or key in AXES}
            waiting.append(LogRow(row.step, row.time, values))
        if waiting and (spot := spots.get((row.axis, row.step))) is not None:
            number, index = spot
            added[number].setdefault(index, []).extend(waiting)
            waiting = []
    if live_pass is not None and waiting:
        added[-1].setdefault(len(lacking[-1]), []).extend(waiting)
        waiting = []
    parts = [Part(keys, rows, server.last_step, epoch_axis) for keys, rows in zip(lacking, added, strict=True)]
    return Plan(parts, waiting)


class _Stock:
    """What a server has, and will have of what was found to be sent."""

    def __init__(self, expected: Sequence[Expected], fragments: Sequence[Fragment], server: ServerRun) -> None:
        self._there = Places(server.rows)
        self._moments = moments(server)
        self._local = Places(row.values for row in expected)
        self._files = Places(row for each in fragments for row in each.usable_rows)

    def take(self, row: Mapping[str, Any], axis: str | None = None) -> set[str]:
        """The keys of a row that are to be sent; from then on they count as there."""
        sent = self._moments.get(moment(row), set())
        keys = {key for key in own_keys(row) - sent if self._lacks(row, key, axis or _axis(row, key))}
        if keys:
            self._there.add({key: value for key, value in row.items() if key in keys or key in AXES})
        return keys

    def _lacks(self, row: Mapping[str, Any], key: str, axis: str | None) -> bool:
        """W&B replaces no value: a key with another one at that place is not sent once more."""
        if axis is None:
            return True
        place = (axis, row[axis])
        if place not in self._there:
            return True
        if self._there.has(place, key, row[key]):
            return False
        return self._there.count(place, key) < (self._local.count(place, key) or self._files.count(place, key))


def _axis(row: Mapping[str, Any], key: str) -> str | None:
    """Where a key of a W&B row stands: a batch's and an epoch's row may have been merged."""
    names = STEPS[::-1] if key.startswith("epoch/") else STEPS
    return next((name for name in names if name in row), None)


def _spots(fragments: Sequence[Fragment], lacking: Sequence[Sequence[set[str]]]) -> dict[Place, Spot]:
    """At which row of which file a place is first brought to the server."""
    found: dict[Place, Spot] = {}
    for number, fragment in enumerate(fragments):
        for index, keys in enumerate(lacking[number]):
            row = fragment.file.rows[index] if keys else {}
            for axis in STEPS:
                if axis in row:
                    found.setdefault((axis, row[axis]), (number, index))
    return found
