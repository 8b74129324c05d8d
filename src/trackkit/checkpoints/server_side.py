"""Makes the server's versions and aliases what the ledger says they should be."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from logging import WARNING
from pathlib import Path

from trackkit.checkpoints.alignment import Move, align, link
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import Ledger, Use
from trackkit.checkpoints.parents import version_name
from trackkit.checkpoints.rules import Rules
from trackkit.checkpoints.staging import Staging
from trackkit.checkpoints.uploads import UploadError, Uploads, Version
from trackkit.notices import logger, say_once

# Seconds between two questions about an upload that takes long: the first, and the longest.
FIRST_LOOK_S, LONGEST_LOOK_S = 1.0, 30.0
# A server that has not answered for so many seconds is not waited for at the end of the run.
PATIENCE_S = 3.0
# Seconds after a question that failed.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
# What can't be handed over so often is left for the sync.
TRIES = 5


class NoServer:
    """Stands for a server where none takes files: offline, or without a backend."""

    @property
    def answers(self) -> bool:
        """Whether the server answered when it was asked last, or has been asked just now."""
        return True

    def retry(self) -> None:
        """Makes the next question be asked without a pause."""

    def look(self) -> float | None:
        """Returns seconds until the next look; None for none."""
        return None

    def hand_over(self, closing: bool) -> bool:
        """Returns whether something was handed over."""
        return False

    def catch_up(self) -> bool:
        """Returns whether nothing is to be waited for."""
        return True

    def say_left(self, left: Sequence[Entry], folder: Path) -> None:
        """Says nothing: the sink has said how to upload the run."""


class ServerSide(NoServer):
    """One upload at a time, so that later saves can make those that wait pointless, and `latest` moves forward only.

    Args:
        ledger, staging, rules: of the run.
        uploads: the server.
        wake: makes the worker look again; called from any thread.

    Attributes:
        moves: the promotions that have moved.
    """

    def __init__(
        self, ledger: Ledger, staging: Staging, rules: Rules, uploads: Uploads, wake: Callable[[], None]
    ) -> None:
        self._ledger, self._staging, self._rules, self._uploads = ledger, staging, rules, uploads
        self._wake = wake
        self.moves: list[Move] = []
        uploads.notify = self._notify
        self._answered, self._asked_at = True, 0.0
        self._notified = self._dead = self._warned = False
        self._mine: set[int] = set()
        self._refused: set[int] = set()
        self._unknown: set[Use] = set()
        self._tries: dict[int, int] = {}
        self._look_s, self._look_at = FIRST_LOOK_S, 0.0
        self._pause_s, self._retry_at = 0.0, 0.0

    @property
    def answers(self) -> bool:
        return self._answered and not 0.0 < self._asked_at < time.monotonic() - PATIENCE_S

    def retry(self) -> None:
        self._answered, self._retry_at, self._look_at = not self._dead, 0.0, 0.0

    def look(self) -> float | None:
        """Asks for the uploads that are under way, if it is time; returns seconds until the next question."""
        now = time.monotonic()
        if self._dead or not (self._flying() or self._uses()):
            return None if self._dead or self._retry_at <= now else self._retry_at - now
        wait = max(self._look_at, self._retry_at) - now
        if wait > 0 and not (self._notified and self._retry_at <= now):
            return wait
        self._notified = False
        self._look_s = min(2 * self._look_s, LONGEST_LOOK_S)
        self._look_at = now + self._look_s
        if not self._try(self._update):
            return self._pause_s
        return self._look_s if self._flying() else 0.0

    def hand_over(self, closing: bool) -> bool:
        """Hands over the next hashed entry, unless another is under way; at the end of the run, one after another."""
        if self._dead or time.monotonic() < self._retry_at or (self._flying() and not closing):
            return False
        for entry in self._ledger.present:
            if entry.state == "hashed" and entry.number not in self._refused:
                if self._try(functools.partial(self._start_upload, entry)):
                    return True
                # The next look is after the pause, not with the next save.
                self._wake()
                return False
        return False

    def catch_up(self) -> bool:
        """Looks once more, at the end; returns whether nothing is left to be waited for."""
        if self._dead or (self._try(self._update) and not self._flying()):
            return True
        return not self._answered

    def admits(self, entry: Entry) -> bool:
        """Returns whether a hashed entry may be uploaded. If the rules refuse it or a file has changed, drops it."""
        if refusal := self._rules.refusal(entry, self._ledger.uploaded):
            self._ledger.change(entry.number, state="skipped", reason=refusal)
            self._staging.free(entry.number)
            self._rules.say(entry, refusal)
            return False
        if name := self._staging.changed(entry):
            self._drop(entry, f"'{name}' was deleted or rewritten before it was uploaded")
            return False
        return True

    def say_left(self, left: Sequence[Entry], folder: Path) -> None:
        """Says which checkpoints the server does not have."""
        steps = ", ".join(str(each.step) for each in left[:5]) + (" ..." if len(left) > 5 else "")
        what = f"the checkpoint of step {steps}" if len(left) == 1 else f"the checkpoints of steps {steps}"
        logger.warning("W&B does not have %s yet. Upload with `trackkit sync %s`.", what, folder)

    def _notify(self) -> None:
        self._notified = True
        self._wake()

    def _flying(self) -> list[Entry]:
        return [each for each in self._ledger.present if each.state == "handed over"]

    def _try(self, question: Callable[[], None]) -> bool:
        """Asks the server; returns whether it answered. After a failure there is a pause, longer each time."""
        self._asked_at = time.monotonic()
        try:
            question()
        except UploadError as error:
            if not self._warned:
                self._warned = True
                logger.warning("Checkpoints can't be uploaded now: %s", error)
            self._answered, self._dead = False, error.final
            self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._retry_at = time.monotonic() + self._pause_s
            return False
        finally:
            self._asked_at = 0.0
        self._answered, self._warned, self._pause_s, self._retry_at = True, False, 0.0, 0.0
        return True

    def _start_upload(self, entry: Entry) -> None:
        """Hands over one entry."""
        if not self.admits(entry):
            return
        # Before the call: after a SIGKILL within it, the next attempt asks the server.
        self._ledger.change(entry.number, state="handed over", handed=True, reason="")
        self._mine.add(entry.number)
        try:
            self._uploads.hand_over(entry, self._staging.folder(entry.number))
        except UploadError as error:
            self._ledger.change(entry.number, state="hashed", reason=str(error))
            self._tries[entry.number] = tries = self._tries.get(entry.number, 0) + 1
            if tries == TRIES:
                # The others wait behind it.
                self._refused.add(entry.number)
            raise
        self._look_s = FIRST_LOOK_S
        self._look_at = time.monotonic() + FIRST_LOOK_S

    def _update(self) -> None:
        """Reads what the server has, and sets right what is not as it should be."""
        asked = [
            each
            for each in self._ledger.entries
            if each.state == "committed" or (each.handed and each.state != "deleted")
        ]
        versions = self._uploads.states(asked)
        for entry in asked:
            version = versions.get(entry.number)
            if entry.state == "handed over":
                self._arrived(entry, version)
            elif version is not None and version.state == "committed" and entry.state != "committed":
                self._came_late(entry, version)
        held, moves = align(self._ledger, self._uploads, versions)
        self.moves += moves
        self._expire(held)
        self.moves += link(self._ledger, self._uploads)
        self._record_uses()
        flying = {each.content for each in self._flying()}
        ended = [each for each in asked if each.content not in flying]
        # Beside a committed version of the same content, a pending one is a leftover in any case.
        done = [each for each in asked if (found := versions.get(each.number)) and found.state == "committed"]
        self._uploads.remove_leftovers([*ended, *done])

    def _arrived(self, entry: Entry, version: Version | None) -> None:
        """Notes what has become of an upload."""
        if version is not None and version.state == "committed":
            if name := self._staging.rewritten(entry):
                # The server may have the new content under the old digest.
                self._uploads.delete(entry, used=True)
                self._drop(entry, f"'{name}' was rewritten while it was uploaded")
            else:
                self._ledger.set_home(self._uploads.path)
                self._ledger.change(entry.number, state="committed", version=version.name, reason="")
                self._staging.free(entry.number)
        elif version is not None and version.state == "refused":
            self._refused.add(entry.number)
            self._ledger.change(entry.number, state="hashed", reason=f"refused: {version.reason}")
            logger.warning("W&B refused the checkpoint of step %d: %s", entry.step, version.reason)
        elif entry.number not in self._mine:
            # An earlier process handed it over, and was killed before its end.
            self._ledger.change(entry.number, state="hashed")

    def _came_late(self, entry: Entry, version: Version) -> None:
        """Adopts a version whose upload counted as failed: retention deletes it if it is not wanted any more."""
        if entry.state in ("hashed", "skipped"):
            self._ledger.set_home(self._uploads.path)
            self._ledger.change(entry.number, state="committed", version=version.name, reason="")
            self._staging.free(entry.number)
        elif entry.state == "overwritten":
            self._uploads.delete(entry, used=True)

    def _expire(self, held: set[int]) -> None:
        """Deletes what is beyond retention."""
        entries = [each for each in self._ledger.present if each.state == "committed"]
        expendable = self._rules.expendable(entries, time.time(), held)
        gone = {each.number for each in expendable}
        kept = {each.content for each in self._ledger.present if each.number not in gone}
        for entry in expendable:
            try:
                is_gone = entry.content in kept or self._uploads.delete(entry)
            except UploadError as error:
                if error.final:
                    raise
                say_once("W&B does not delete '%s', which is beyond 'keep': %s", entry.version, error, level=WARNING)
                return
            if is_gone:
                self._ledger.change(entry.number, state="deleted", aliases=(), reason="beyond 'keep'")
            else:
                self._ledger.change(entry.number, used=True)

    def _uses(self) -> list[Use]:
        """Returns the uses that the server may be able to note."""
        return [each for each in self._ledger.uses if not each.done and each not in self._unknown]

    def _record_uses(self) -> None:
        for use in self._uses():
            name = use.name or version_name(use.folder, use.number)
            if name and self._uploads.use(name):
                self._ledger.note_use(replace(use, done=True))
            else:
                # Its run is not synced yet: the next sync of this one asks again.
                self._unknown.add(use)

    def _drop(self, entry: Entry, reason: str) -> None:
        self._ledger.change(entry.number, state="overwritten", reason=reason)
        self._staging.free(entry.number)
        logger.warning("The checkpoint of step %d is not at W&B: %s.", entry.step, reason)
