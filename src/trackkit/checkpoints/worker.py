"""The thread that stages, hashes and hands over checkpoints, so that neither the training nor the rows wait for it."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

from trackkit.checkpoints import hashing
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import Ledger
from trackkit.checkpoints.rules import Rules
from trackkit.checkpoints.server_side import NoServer, ServerSide
from trackkit.checkpoints.staging import PARTS_S, Changed, Gone, Staging, is_quiet, missing_parts
from trackkit.checkpoints.uploads import Uploads
from trackkit.notices import logger, say_once

# Without a server; with one, its own bound counts.
CLOSE_S = 30.0
# What failed, such as a copy to a full disk, is tried again after so long.
RETRY_S = 30.0
# At the end, the server is asked again after so long.
LOOK_S = 0.3
# Even if the end of the run has used its time, a server that answers is asked once.
LEAST_S = 1.0
_QUIET_TICK_S = 0.25


class Worker:
    """Does everything that takes time, one step after another, on a daemon thread.

    What is to be done is read from the ledger: killed at any line, a later attempt or a sync goes on from there.

    Args:
        folder: of the run.
        ledger, staging, rules: of the run.
        uploads: None where no server takes files now.
    """

    def __init__(self, folder: Path, ledger: Ledger, staging: Staging, rules: Rules, uploads: Uploads | None) -> None:
        self._folder, self._ledger, self._staging, self._rules = folder, ledger, staging, rules
        self._takes = uploads is not None
        self._server = ServerSide(ledger, staging, rules, uploads, self.wake) if uploads is not None else NoServer()
        self._bound_s = uploads.finish_timeout if uploads is not None else CLOSE_S
        self._deadline = 0.0
        self._retry: dict[int, float] = {}
        self._skipped = 0
        self._awake, self._idle, self._over = threading.Event(), threading.Event(), threading.Event()
        self._closing = self._stopped = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Makes the thread look at the ledger, and starts it if it does not run yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="trackkit-checkpoints", daemon=True)
            self._thread.start()
        self._awake.set()

    def prepare(self) -> None:
        """Stages, hashes and skips in the calling thread, for a sync; leaves what fails as it is."""
        while (pause := self._step()) is not None and pause <= _QUIET_TICK_S:
            time.sleep(pause)

    def closing(self) -> None:
        """Waits until all is handed over, but not for a server that does not answer, nor longer than its bound."""
        self._deadline = time.monotonic() + self._bound_s
        if self._thread is None:
            return
        self._server.retry()
        self._idle.clear()
        self._closing = True
        self.wake()
        while not self._idle.wait(LOOK_S) and self._server.answers and time.monotonic() < self._deadline:
            pass

    def closed(self) -> None:
        """Ends the thread, once the server has what it should have or the bound has passed."""
        if self._thread is None:
            return
        self._stopped = True
        self.wake()
        self._over.wait(max(LEAST_S if self._server.answers else 0.0, self._deadline - time.monotonic()))
        if self._skipped > 1:
            logger.info("%d superseded checkpoints were not uploaded.", self._skipped)
        if left := [each for each in self._ledger.present if each.state != "committed"]:
            self._server.say_left(left, self._folder)

    def _work(self) -> None:
        while not self._stopped:
            try:
                pause = self._step()
            except Exception:  # noqa: BLE001 -- logged
                logger.exception("A checkpoint can't be processed; training continues")
                pause = None
            if pause == 0.0:
                continue
            if pause is None or (self._closing and pause > LEAST_S):
                self._idle.set()
            self._awake.wait(RETRY_S if pause is None else min(pause, RETRY_S))
            self._awake.clear()
        self._idle.set()
        try:
            while not self._server.catch_up() and time.monotonic() < self._deadline:
                time.sleep(LOOK_S)
        except Exception:  # noqa: BLE001 -- logged
            logger.exception("The checkpoints on W&B can't be checked; `trackkit sync` does it")
        self._over.set()

    def _step(self) -> float | None:
        """Does one thing; returns seconds until the next look: 0 if there is more, None if nothing is to be done."""
        entries, now = self._ledger.present, time.monotonic()
        pause: float | None = None
        for entry in entries:
            if entry.state == "saved" and now >= self._retry.get(entry.number, 0.0):
                wait = self._stage(entry)
                if wait is None:
                    return 0.0
                pause = wait if pause is None else min(pause, wait)
        if superseded := self._rules.superseded(entries, time.time(), self._takes):
            for entry in superseded:
                self._skip(entry)
            return 0.0
        # Before the hashing, which may take long: what is committed, is said to be.
        wait = self._server.look()
        for entry in self._ledger.present:
            if entry.state == "staged":
                self._hash(entry)
                return 0.0
        if self._server.hand_over(self._closing):
            return 0.0
        waits = [each for each in (pause, wait) if each is not None]
        return min(waits, default=None)

    def _stage(self, entry: Entry) -> float | None:
        """Stages what could not be linked at the save; returns None, or seconds until it can be."""
        if entry.shared:
            missing, late = missing_parts(entry), time.time() - entry.time > PARTS_S
            found = self._staging.rescan(entry, self._rules.weights_only)
            entry = self._ledger.change(entry.number, files=found.files)
            if (missing and not late) or not is_quiet(entry, time.time()):
                return _QUIET_TICK_S
            if missing:
                logger.warning(
                    "The checkpoint of step %d lacks '%s', which another rank should have written within %.0f s: it is "
                    "kept without.",
                    *(entry.step, missing[0], PARTS_S),
                )
        failed = self._staging.error
        if failed is not None and failed.errno == errno.EXDEV:
            say_once(
                "The checkpoints are on another file system than '%s', where TrackKit keeps them: they are copied in "
                "the background. Set 'dir' to a folder on the same file system to save the space.",
                self._folder,
            )
        try:
            entry = self._staging.copy(entry)
        except Gone as gone:
            self._give_up(entry, "lost", f"deleted before staging: '{gone}'")
        except Changed as changed:
            self._give_up(entry, "overwritten", f"'{changed}' was rewritten before it was staged")
        except OSError as error:
            self._retry[entry.number] = time.monotonic() + RETRY_S
            self._ledger.change(entry.number, reason=f"can't be staged: {error.strerror}")
            say_once("Cannot stage checkpoints in '%s' (%s); it is tried again.", self._staging.home, error.strerror)
            return RETRY_S
        else:
            self._ledger.change(entry.number, files=entry.files, state="staged", shared=False, reason="")
        return None

    def _hash(self, entry: Entry) -> None:
        folder = self._staging.folder(entry.number)
        try:
            name = self._staging.changed(entry)
            found = entry if name else hashing.hashed(entry, folder, lambda: self._stopped)
            name = name or self._staging.changed(entry)
        except hashing.Stopped:
            return
        except (OSError, ValueError) as error:
            # A name that is not UTF-8 can't be hashed.
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._give_up(entry, "skipped", f"can't be read: {reason}")
            return
        if name:
            self._give_up(entry, "overwritten", f"'{name}' was deleted or rewritten while it was staged")
        else:
            self._ledger.change(entry.number, files=found.files, digest=found.digest, state="hashed")

    def _skip(self, entry: Entry) -> None:
        self._ledger.change(entry.number, state="skipped", reason="superseded before its turn")
        self._staging.free(entry.number)
        if self._takes:
            self._skipped += 1
            if self._skipped == 1:
                logger.info(
                    "The checkpoint of step %d is not uploaded: newer ones were saved before its turn. Others will be "
                    "skipped too, if checkpoints are saved faster than they are uploaded.",
                    entry.step,
                )

    def _give_up(self, entry: Entry, state: str, reason: str) -> None:
        self._ledger.change(entry.number, state=state, reason=reason)
        self._staging.free(entry.number)
        logger.warning("The checkpoint of step %d is not kept: %s.", entry.step, reason)
