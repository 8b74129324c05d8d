"""The sync's own files in a run's folder: a lock, and notes on what was verified."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from filelock import FileLock, Timeout

from trackkit.local_log.reader import read_json
from trackkit.local_log.regular import regular
from trackkit.sync.targets import Target


@contextmanager
def locked(target: Target) -> Iterator[None]:
    """Holds the lock of a run. On a file system without locks, runs without one.

    Raises:
        Timeout: another process holds it.
        OSError: there is no place for a lock.
    """
    places = target.places(".sync.lock")
    with ExitStack() as stack:
        for place in places:
            try:
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(FileLock(regular(place), timeout=0))
            except Timeout:
                raise
            except NotImplementedError:
                break
            except OSError:
                continue
            break
        else:
            raise OSError(
                f"Cannot create a lock file in '{places[0].parent}' or '{places[-1].parent}'. "
                "Make one of the two writable."
            )
        yield


class Ledger:
    """The notes on a run, in `sync.json`.

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
        # The sync itself reports what can't be read.
        with suppress(Exception):
            found = self._read().get(self._server)
            if isinstance(found, dict) and found.get("size") == self._target.size():
                return found
        return {}

    def remember(self, path: str, url: str, rows: int) -> None:
        """Notes that all of the run is on the server."""
        size = self._target.size()
        self._write({"path": path, "url": url, "rows": rows, "verified": time.time(), "size": size})

    def forget(self) -> None:
        """Drops the notes, since the server no longer has the run."""
        self._write({})

    def _read(self) -> dict[str, Any]:
        return next(filter(None, map(read_json, self._target.places("sync.json"))), {})

    def _write(self, notes: dict[str, Any]) -> None:
        text = json.dumps({**self._read(), self._server: notes}, indent=1) + "\n"
        for path in self._target.places("sync.json"):
            spare = path.with_name(f".{path.name}.{os.getpid()}")
            with suppress(OSError):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with spare.open("x", encoding="utf-8") as file:
                    file.write(text)
                os.replace(spare, path)
                return
