"""One W&B file of a run: a process that recorded it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackkit.integrations.wandb.api import ServerRun
from trackkit.integrations.wandb.file import RunFile, read_run_file


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
    def first_step(self) -> float:
        """W&B's step of its first row; infinity without rows."""
        return min((row["_step"] for row in self.file.rows), default=float("inf"))

    def there(self, server: ServerRun | None) -> int:
        """How many of its rows the server is through with: up to the last that it has."""
        known = {_moment(row) for row in server.rows} if server is not None else set()
        found = (number for number, row in enumerate(self.file.rows, 1) if _moment(row) in known)
        return max(found, default=0)

    def shown(self, server: ServerRun) -> bool:
        """Whether the server has its last row."""
        return self.there(server) == len(self.file.rows)

    def needed(self, server: ServerRun | None) -> bool:
        """Whether the server lacks any of it that it would still take."""
        if not self.file.run_id:
            # A crash came before anything was written.
            return False
        if server is None or not self.shown(server):
            return True
        if any(server.artifacts.get(digest) != "COMMITTED" for _, digest in self.file.artifacts):
            return True
        return not self.marker.exists() if self.offline else server.state in ("running", "crashed")


def _moment(row: Mapping[str, Any]) -> float:
    """What tells a row from every other, whatever step it was given: its time, to 10 us."""
    return round(float(row.get("_timestamp") or -1.0), 5)
