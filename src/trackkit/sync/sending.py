"""Uploads one W&B file of a run, as much of it as the server lacks."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from trackkit.local_log.reader import read_folder
from trackkit.sync.completion import exit_code
from trackkit.sync.fragment import Fragment
from trackkit.sync.ledger import Ledger
from trackkit.sync.rest import Part, Rest
from trackkit.sync.server_run import Server, ServerRun
from trackkit.sync.target import Target
from trackkit.sync.upload import upload

# How long a run whose local log has ended may take to end W&B's file too.
END_S = 90.0


class Sender:
    """Uploads the files of one run.

    Args:
        target: the run.
        server: where to.
        ledger: what is noted of the run.
        locks: file descriptors of the run's locks, which an upload holds for as long as it lives.
    """

    def __init__(self, target: Target, server: Server, ledger: Ledger, locks: Sequence[int]) -> None:
        self._target = target
        self._server = server
        self._ledger = ledger
        self._locks = locks
        self._ended_at: float | None = None

    def send(
        self,
        fragment: Fragment,
        part: Part,
        earlier: Sequence[Fragment],
        known: ServerRun | None,
        home: Path,
        live: bool,
    ) -> None:
        """Uploads a file.

        Args:
            fragment: the file.
            part: what of its history to send.
            earlier: the files before it.
            known: what the server has; None where it does not know the run.
            home: folder for a copy.
            live: whether it still grows; then it is followed until the run has ended.

        Raises:
            ServerError: it could not be uploaded.
        """
        lines = known.console if known else 0
        begun = fragment.begun(known)
        # Lines of other fragments are on the server too: how many, is noted before a fragment's first upload.
        before = self._ledger.noted(fragment.name, sum(each.file.console for each in earlier) if begun else lines)
        new = known is None or not (known.lines or known.console)
        # W&B refuses a file that a crash has cut within a record, and keeps notes of its own beside it.
        usable = fragment.file.whole and os.access(fragment.path.parent, os.W_OK)
        if new and not live and not part.added and usable:
            upload(fragment.path, self._server, self._locks)
            return
        seam, measured = (known.seam, known.measured) if known else (None, 0.0)
        rest = Rest(fragment.path, home, part, max(0, lines - before), seam, measured)
        try:
            rest.copy(final=not live)
            upload(rest.path, self._server, self._locks, live, lambda: self._follow(rest) if live else None)
        finally:
            rest.close()
        with contextlib.suppress(OSError):
            fragment.marker.touch()

    def _follow(self, rest: Rest) -> None:
        """A live run: what is new is copied; where its process has died without a word its end is written."""
        writing = self._target.writing
        rest.copy(final=not writing)
        if rest.ended or (self._target.running and writing):
            return
        self._ended_at = self._ended_at or time.monotonic()
        # W&B's own process writes the last second a moment after the training's has died.
        if time.monotonic() - self._ended_at > (END_S if writing else 2.0):
            folder = self._target.folder
            rest.end(exit_code(read_folder(folder)) if folder is not None else 1)
