"""What syncs have noted of a run, for each server that it went to."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from trackkit.local_log import index
from trackkit.local_log.reader import read_json
from trackkit.sync.target import Target

NAME = "sync.json"


class Ledger:
    """The notes on a run: `sync.json` in its folder, or, where that takes no file, a file among the user's own.

    For each server: `path`, `url`, `rows` and `verified` (Unix time in seconds) of the last sync that found everything,
    `size` (the bytes of the run's files then) and `before` (see `noted`).

    Args:
        target: the run.
        server: address of the server.
    """

    def __init__(self, target: Target, server: str) -> None:
        self._target = target
        self._server = server

    def verified(self) -> dict[str, Any]:
        """What the last sync found on the server, where that was everything and nothing has changed since; else {}."""
        notes = self._notes()
        return notes if "size" in notes and notes["size"] == self._target.size() else {}

    def noted(self, fragment: str, value: int) -> int:
        """How many lines of console output the server had before a fragment's first upload: `value` if this is it."""
        notes = self._notes()
        before: dict[str, int] = notes.get("before", {})
        if fragment not in before:
            before[fragment] = value
            self._write({**notes, "before": before})
        return before[fragment]

    def remember(self, found: dict[str, Any]) -> None:
        """Notes that all of the run is on the server."""
        self._write({**self._notes(), **found, "size": self._target.size()})

    def forget(self) -> None:
        """The server has lost the run: what was noted is no longer so."""
        self._write({})

    @property
    def _path(self) -> Path:
        home = self._target.home
        if os.access(home, os.W_OK):
            return home / NAME
        name = f"{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:24]}.json"
        own = [folder / "trackkit-sync" / name for folder in index.state_folders()]
        return next((path for path in own if _takes_files(path.parent)), own[-1])

    def _notes(self) -> dict[str, Any]:
        if self._target.folder is None and not self._target.fragments:
            return {}
        found = read_json(self._path).get(self._server, {})
        return found if isinstance(found, dict) else {}

    def _write(self, notes: dict[str, Any]) -> None:
        path = self._path
        spare = path.with_name(f".{path.name}.{os.getpid()}")
        spare.write_text(json.dumps({**read_json(path), self._server: notes}, indent=1) + "\n", encoding="utf-8")
        os.replace(spare, path)


def _takes_files(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
