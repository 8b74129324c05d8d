"""Syncs one run: gathers, compares, uploads what is lacking, reads back and compares again."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import Timeout

from trackkit.errors import TrackKitError
from trackkit.integrations.wandb.files import RunFileReader, read_run_record
from trackkit.local_log.notes import notes_of
from trackkit.notices import logger
from trackkit.sync.checkpoints import Checkpoints, owes_uses
from trackkit.sync.delta import Delta
from trackkit.sync.gather import Source, gather
from trackkit.sync.lacking import Lacking, lacking
from trackkit.sync.ledger import Ledger, locked
from trackkit.sync.report import Report, report
from trackkit.sync.server_run import Server, ServerRun
from trackkit.sync.targets import Target
from trackkit.sync.upload import upload

# Seconds that the server may take to show what it has accepted.
SHOWN_S = 30.0
# Seconds that a run which has ended in the local log may take to end in W&B's file.
END_S = 90.0
# W&B's own process writes the last second a moment after the training's has died.
LINGER_S = 2.0


class Job:
    """The sync of one run.

    Args:
        target: the run.
        server: where to.
        say: gets a line on each step.
    """

    def __init__(self, target: Target, server: Server, say: Callable[[str], None] = lambda line: None) -> None:
        self._target = target
        self._server = server
        self._say = say
        self._ledger = Ledger(target, server.url)

    def sync(self, watch: bool = False) -> Report:
        """Uploads and verifies the run. Reports errors instead of raising them, so that other runs are synced.

        Args:
            watch: whether to follow a run that is still being written.
        """
        try:
            return self._verified() or self._running(watch) or self._sync(watch)
        except Timeout:
            return Report(self._target, "failed", "another process is syncing it; wait for that to end")
        except TrackKitError as error:
            return Report(self._target, "failed", str(error))
        except Exception as error:  # noqa: BLE001 -- one broken run must not stop the others
            logger.debug("the sync of '%s' failed", self._target.run_id, exc_info=error)
            return Report(self._target, "failed", f"{type(error).__name__}: {error}")

    def _verified(self) -> Report | None:
        found = self._ledger.verified()
        if not found or owes_uses(self._target.folder):
            return None
        if not self._server.has(found["path"]):
            self._say("the server does not have it any more: sending it again")
            self._ledger.forget()
            return None
        reason, rows = "verified before and unchanged since: nothing to upload", int(found["rows"])
        return Report(self._target, "unchanged", reason, rows, rows, url=str(found["url"]))

    def _running(self, watch: bool) -> Report | None:
        """Returns the report on a run that is left alone because it is still being written."""
        files = self._target.files
        is_offline = bool(files) and files[-1].parent.name.startswith("offline-")
        if not self._target.is_running or (watch and is_offline):
            return None
        remedy = "use '--watch' to follow it" if is_offline else "sync it when it has ended"
        return Report(self._target, "running", f"it is still being written: {remedy}")

    def _sync(self, watch: bool) -> Report:
        while watch and self._target.is_running and read_run_record(self._target.files[-1]) is None:
            # W&B writes the run record about a second after the file's start.
            self._server.check_stopped()
            time.sleep(0.5)
        path = self._target.path(self._server.entity)
        with tempfile.TemporaryDirectory(prefix="trackkit-sync-") as home, locked(self._target):
            if watch and self._target.is_running:
                self._follow(path, Path(home) / "live")
            server, source = self._server.run(path), gather(self._target)
            found = lacking(source, server)
            checkpoints = Checkpoints(self._target.folder, path)
            unsent = checkpoints.prepare(bool(server.state))
            if found or unsent:
                self._say(
                    "uploading " + ", ".join([str(found)] * bool(found) + [f"{len(unsent)} checkpoints"] * bool(unsent))
                )
                delta = Delta(Path(home), source, server, found, checkpoints.records(unsent))
                delta.end(source)
                upload(delta.path, self._server)
                server, found = self._read_back(path, source)
            trouble = checkpoints.finish()
            for line in checkpoints.moves:
                self._say(line)
        result = report(source, server, found, checkpoints.counts, trouble)
        if server.state and source.local is not None and (notes := notes_of(source.local)):
            self._server.annotate(server, notes)
        if result.verdict == "complete":
            self._ledger.remember(path, server.url, result.rows)
        return result

    def _read_back(self, path: str, source: Source) -> tuple[ServerRun, Lacking]:
        """Returns the run once the server shows what was sent, or as it is after a while."""
        deadline, pause = time.monotonic() + SHOWN_S, 0.1
        while True:
            server = self._server.run(path)
            found = lacking(source, server)
            if not found.is_underway or time.monotonic() > deadline:
                return server, found
            self._server.check_stopped()
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _follow(self, path: str, home: Path) -> None:
        """Uploads a run while it is being written, until it ends."""
        readers = [RunFileReader(each) for each in self._target.files]
        server, source = self._server.run(path), gather(self._target, readers)
        delta = Delta(home, source, server, lacking(source, server))
        self._say(f"following {self._target.files[-1].parent.name}")
        ends_at = math.inf
        has_ended = False

        def copy() -> None:
            nonlocal ends_at, has_ended
            if has_ended:
                return
            is_open = self._target.is_open
            delta.follow(readers[-1].read(final=not is_open))
            if not (is_open and self._target.is_running):
                ends_at = min(ends_at, time.monotonic() + (END_S if is_open else LINGER_S))
            has_ended = readers[-1].has_ended or time.monotonic() > ends_at
            if has_ended:
                delta.end(gather(self._target))

        upload(delta.path, self._server, copy)
