"""Takes each save of the framework in the training thread: notes it, links its files, leaves the rest to the worker."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from trackkit.checkpoints import aliases
from trackkit.checkpoints.entry import Entry, File
from trackkit.checkpoints.ledger import Ledger, Use
from trackkit.checkpoints.naming import collection
from trackkit.checkpoints.parents import Parent
from trackkit.checkpoints.promotion import promote
from trackkit.checkpoints.rules import Rules
from trackkit.checkpoints.staging import Staging, note
from trackkit.checkpoints.uploads import Uploads
from trackkit.checkpoints.worker import Worker
from trackkit.engine.records import Checkpoint
from trackkit.notices import logger, say_once
from trackkit.redaction.patterns import mask_url


class Store:
    """The checkpoints of one run, over all its attempts.

    Args:
        folder: of the run.
        rules: the settings.
        names: for the names of collections: `name`, `run_id`, `group`.
        commit: of the git repository; "" if unknown.
        uploads: where the files go; None where no server takes them now.
    """

    def __init__(
        self, folder: Path, rules: Rules, names: Mapping[str, str], commit: str = "", uploads: Uploads | None = None
    ) -> None:
        self.ledger = Ledger(folder)
        self.ledger.set_options(rules.options)
        self._staging = Staging(folder)
        self._rules, self._names, self._commit = rules, names, commit
        entries = self.ledger.entries
        self._number = max([each.number for each in entries] + self._staging.numbers(), default=0)
        self._staging.tidy(entries)
        self._worker = Worker(folder, self.ledger, self._staging, rules, uploads)
        if any(each.is_present and each.state != "committed" for each in entries):
            self._worker.wake()

    def add(self, checkpoint: Checkpoint) -> Entry:
        """Records a save. Hard-links its files, copies small ones that are rewritten in place, and hashes nothing."""
        path = mask_url(checkpoint.path) if "://" in checkpoint.path else os.path.abspath(checkpoint.path)
        with self.ledger.lock:
            self._number += 1
            entry = Entry(
                number=self._number,
                path=path,
                step=checkpoint.step,
                epoch=checkpoint.epoch,
                metric=checkpoint.monitor,
                value=checkpoint.value,
                goal=checkpoint.goal,
                time=round(time.time(), 3),
                framework=checkpoint.framework,
                series=checkpoint.series,
                resumable=checkpoint.resumable and not (self._rules.weights_only and os.path.isdir(path)),
                complete=checkpoint.complete,
                shared=checkpoint.shared,
                parts=checkpoint.parts,
                commit=self._commit,
                collection=collection(self._rules.name, {**self._names, "series": checkpoint.series}),
            )
            if self._rules.weights_only and entry.resumable and os.path.isfile(path):
                say_once(
                    "'weights_only' can't leave the optimizer's state out of a checkpoint that is one file. Give "
                    "Lightning's ModelCheckpoint `save_weights_only=True`."
                )
            if checkpoint.again and self._has_twin(entry):
                return self.ledger.put(replace(entry, state="skipped", reason="same weights as the one before"))
            entry = self._staged(replace(entry, files=self._files(entry)))
            self._worker.wake()
            return entry

    def pushed(self, url: str, path: str) -> None:
        """Notes the push of a checkpoint to a model hub: of the one saved to `path`, or of the newest."""
        with self.ledger.lock:
            found = [each for each in self.ledger.entries if not path or each.path == os.path.abspath(path)]
            if found:
                self.ledger.change(found[-1].number, hub_url=url)
                self._worker.wake()

    def used(self, parent: Parent) -> None:
        """Notes that the run has loaded a checkpoint of another run."""
        if parent.artifact or parent.folder:
            self.ledger.note_use(Use(parent.artifact, parent.folder, parent.number))
            self._worker.wake()

    def closing(self) -> None:
        """Hands over what is not yet, within the time that the end of the run may wait."""
        if given := self._rules.promotion():
            promote(self.ledger, aliases.best(self.ledger.entries), given)
        self._worker.closing()

    def closed(self) -> None:
        """Checks what the server has, and ends the worker."""
        self._worker.closed()
        self.ledger.close()

    def _has_twin(self, entry: Entry) -> bool:
        """Returns whether the save before it, of the same weights, is kept: Lightning's `last.ckpt` is a second one."""
        before = self.ledger.last(entry.collection)
        return before is not None and before.is_present and before.step == entry.step

    def _files(self, entry: Entry) -> tuple[File, ...]:
        if entry.is_remote:
            return ()
        try:
            return note(Path(entry.path), self._rules.weights_only)
        except OSError as error:
            logger.warning("Cannot read the checkpoint '%s' (%s).", entry.path, error.strerror)
            return ()

    def _staged(self, entry: Entry) -> Entry:
        refusal = self._rules.refusal_at_save(entry, self.ledger.uploaded, self.ledger.present)
        if refusal:
            self._rules.say(entry, refusal)
            return self.ledger.put(replace(entry, state="skipped", reason=refusal))
        if entry.is_remote:
            return self.ledger.put(replace(entry, state="staged"))
        if not entry.files:
            return self.ledger.put(replace(entry, state="lost", reason="deleted before staging"))
        # A line before the links: what a SIGKILL leaves behind belongs to an entry.
        entry = self.ledger.put(entry)
        linked = self._staging.link(entry)
        return self.ledger.put(replace(entry, state="staged")) if linked and not entry.shared else entry
