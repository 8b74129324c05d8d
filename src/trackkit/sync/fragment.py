"""One W&B file of a run: a process that recorded it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trackkit.integrations.wandb.files import RunFile, own_keys, read_run_file
from trackkit.sync.compare import STEPS
from trackkit.sync.rest import Part
from trackkit.sync.server_run import ServerRun


class Fragment:
    """A W&B file, and what is in it.

    Attributes:
        path: of the file.
        file: its content.
        name: of its folder.
        offline: whether it was recorded offline.
        marker: the file by which W&B notes that an upload has ended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: RunFile = read_run_file(path)
        self.name = path.parent.name
        self.offline = self.name.startswith("offline-")
        self.marker = path.with_suffix(".wandb.synced")

    @property
    def usable_rows(self) -> Sequence[Mapping[str, Any]]:
        """Its history; none where a crash came before W&B wrote what run it is: such a file can't be uploaded."""
        return self.file.rows if self.file.run_id else []

    @property
    def first_step(self) -> int | None:
        """Where its history begins on our own axes."""
        steps = (row[axis] for row in self.usable_rows for axis in STEPS if axis in row)
        return next(steps, None)

    def begun(self, server: ServerRun | None) -> bool:
        """Whether the server has a row that its process, or an upload of it, has sent: no later process did."""
        known = {_origin(row) for row in server.rows} if server is not None else set()
        return any(_origin(row) in known for row in self.file.rows)

    def shown(self, part: Part, server: ServerRun) -> bool:
        """Whether the server has the last row of what was sent of it."""
        last = max((number for number, keys in enumerate(part.lacking) if keys), default=None)
        return last is None or part.lacking[last] <= moments(server).get(moment(self.file.rows[last]), set())

    def needed(self, part: Part, server: ServerRun | None) -> bool:
        """Whether the server lacks any of it."""
        if not self.file.run_id:
            return False
        if server is None or part.added or any(part.lacking):
            return True
        if any(server.artifacts.get(digest) != "COMMITTED" for _, digest in self.file.artifacts):
            return True
        return not self.marker.exists() if self.offline else server.state in ("running", "crashed")


def in_order(fragments: Iterable[Fragment]) -> list[Fragment]:
    """A run's files in the order in which it was recorded.

    That is the order of their starts, but for those that a clock says otherwise of: each process goes on above the
    steps of the one before it.
    """
    ordered = list(fragments)
    counted = [number for number, each in enumerate(ordered) if each.first_step is not None]
    by_step = sorted((ordered[number] for number in counted), key=lambda each: each.first_step or 0)
    for number, fragment in zip(counted, by_step, strict=True):
        ordered[number] = fragment
    return ordered


def moment(row: Mapping[str, Any]) -> float | None:
    """What tells a row of W&B's from every other, whatever step it was given: its time, to 10 us."""
    return round(float(row["_timestamp"]), 5) if "_timestamp" in row else None


def _origin(row: Mapping[str, Any]) -> tuple[float | None, float]:
    """The same of a row and of what its process has made of it: its time since that began goes with no other."""
    return moment(row), round(float(row.get("_runtime") or 0.0), 5)


def moments(server: ServerRun) -> dict[float | None, set[str]]:
    """The keys that a server has of each moment."""
    found: dict[float | None, set[str]] = {}
    for row in server.rows:
        found.setdefault(moment(row), set()).update(own_keys(row))
    found.pop(None, None)
    return found
