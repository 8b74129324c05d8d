"""What became of the checkpoints of a recorded run: of each, where it is, and what all of them take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackkit.checkpoints.aliases import collections, wanted
from trackkit.checkpoints.alignment import wanted_beside
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import read_ledger
from trackkit.checkpoints.naming import is_ours
from trackkit.checkpoints.staging import Staging
from trackkit.checkpoints.uploads import UploadError
from trackkit.integrations.wandb.artifacts import Artifacts
from trackkit.local_log.places import known_runs
from trackkit.local_log.reader import read_json
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError

_PROJECT = "trackkit/settings/project"
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint of a run.

    Attributes:
        entry: in the run's ledger, or made of the version on a server.
        aliases: it has or, as long as it is not committed, is to have.
        path: where the framework's file or folder is, or the URL; "" once it is deleted or replaced by a newer save.
        staging: folder with TrackKit's links or copies; "" without any.
    """

    entry: Entry
    aliases: tuple[str, ...]
    path: str = ""
    staging: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """What a program may want to know of it."""
        names = ("number", "step", "epoch", "metric", "value", "goal", "time", "size", "state", "reason", "resumable")
        given = {
            name: getattr(self.entry, name) for name in (*names, "collection", "version", "commit", "hub_url", "was")
        }
        return {**given, "aliases": list(self.aliases), "path": self.path, "staging": self.staging}


def saved_checkpoints(run: RecordedRun) -> list[SavedCheckpoint]:
    """Returns the checkpoints of a run by number; of a run on a server alone, the versions there, the oldest first.

    Raises:
        ReadError: the run has no folder here, and a server does not answer.
    """
    if run.folder is None:
        try:
            found = Artifacts(str(run.run["path"])).own() if "path" in run.run else []
        except UploadError as error:
            raise ReadError(f"cannot read the checkpoints of '{run.run_id}' from W&B: {error}") from error
        return [SavedCheckpoint(each, each.aliases) for each in found]
    entries, staging = read_ledger(run.folder), Staging(run.folder)
    names = wanted(entries) | _shared(run, entries)
    newest = {each.path: each.number for each in entries}
    numbers = set(staging.numbers())
    # A second save of the same weights, such as Lightning's `last.ckpt`, has no files of its own.
    kept = [each for each in entries if each.files or each.is_remote or each.state != "skipped"]
    return [
        SavedCheckpoint(
            each,
            names.get(each.number, ()),
            each.path if newest[each.path] == each.number and (each.is_remote or os.path.exists(each.path)) else "",
            str(staging.folder(each.number)) if each.number in numbers else "",
        )
        for each in kept
    ]


def _shared(run: RecordedRun, entries: Sequence[Entry]) -> dict[int, tuple[str, ...]]:
    """Returns the number of each committed entry to the aliases that it has.

    Another run of this machine that shares the collection may have the best and the latest.
    """
    committed = [each for each in entries if each.state == "committed"]
    found = {each.number: each.aliases for each in committed}
    others = collections(_of_others(run)) if committed else {}
    for name, own in collections(committed).items():
        for each, names in zip(own, wanted_beside(own, others[name]) if name in others else (), strict=False):
            found[each.number] = (*filter(is_ours, names), *each.foreign)
    return found


def _of_others(run: RecordedRun) -> list[Entry]:
    """Returns the committed entries of the other runs of a project on this machine."""
    project, own = run.config.get(_PROJECT), os.path.realpath(run.folder or "")
    folders = [each.folder for each in known_runs() if each.folder is not None]
    same = [
        folder
        for folder in folders
        if os.path.realpath(folder) != own and read_json(folder / "config.json").get(_PROJECT) == project
    ]
    return [entry for folder in same for entry in read_ledger(folder) if entry.state == "committed"]


def totals(saved: Sequence[SavedCheckpoint]) -> list[str]:
    """Returns sentences on what the checkpoints of a run take: on this disk, and in W&B."""
    stored = {each.entry.content: each.entry.size for each in saved if each.entry.state == "committed"}
    in_wandb = f"{len(stored)} version{'s' * (len(stored) != 1)} in W&B, {to_size(sum(stored.values()))}."
    if saved and not any(each.entry.number for each in saved):
        return [in_wandb]
    kept = _sizes(each.path for each in saved if each.path and not each.entry.is_remote)
    folders = [each.staging for each in saved if each.staging]
    own = sum(size for file, size in _sizes(folders).items() if file not in kept)
    said = [f"{len(saved)} saved; {in_wandb}", f"On this disk: {to_size(sum(kept.values()))} of the framework's files."]
    if folders:
        said.append(f"Staging: {to_size(own)} more, in {os.path.dirname(folders[0])}")
    return said


def to_size(count: float) -> str:
    """Returns a number of bytes as text, in units of 1,000."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {_UNITS[-1]}"


def _sizes(places: Iterable[str]) -> dict[tuple[int, int], int]:
    """Returns device and inode of each file at or below some places to its bytes: hard links are one file."""
    files = [file for place in places for file in (Path(place), *Path(place).rglob("*")) if file.is_file()]
    return {(found.st_dev, found.st_ino): found.st_size for found in map(os.stat, files)}
