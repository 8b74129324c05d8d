"""Remembers which runs were verified, for each server."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from trackkit.local_log import index
from trackkit.local_log.reader import read_json
from trackkit.sync.targets import Target


class Ledger:
    """The notes on a run: `sync.json` in its folder or, if that is read-only, a file among the user's own.

    For each server: `path`, `url` and `rows` of the last sync that found everything, `verified` (its Unix time in
    seconds) and `size` (the bytes of the run's files then).

    Args:
        target: the run.
        server: address of the server.
    """

    def __init__(self, target: Target, server: str) -> None:
        self._target = target
        self._server = server

    def verified(self) -> dict[str, Any]:
        """Returns what the last sync found if it found everything and nothing has changed since; else {}."""
        if self._target.folder is None and not self._target.files:
            return {}
        found = read_json(self._path).get(self._server)
        return found if isinstance(found, dict) and found.get("size") == self._target.size() else {}

    def remember(self, path: str, url: str, rows: int) -> None:
        """Notes that all of the run is on the server."""
        size = self._target.size()
        self._write({"path": path, "url": url, "rows": rows, "verified": time.time(), "size": size})

    def forget(self) -> None:
        """Drops the notes: the server has lost the run."""
        self._write({})

    @property
    def _path(self) -> Path:
        home = self._target.home
        if os.access(home, os.W_OK):
            return home / "sync.json"
        name = f"{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:24]}.json"
        own = [folder / "trackkit-sync" / name for folder in index.state_folders()]
        return next((path for path in own if _is_writable(path.parent)), own[-1])

    def _write(self, notes: dict[str, Any]) -> None:
        path = self._path
        spare = path.with_name(f".{path.name}.{os.getpid()}")
        spare.write_text(json.dumps({**read_json(path), self._server: notes}, indent=1) + "\n", encoding="utf-8")
        os.replace(spare, path)


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
