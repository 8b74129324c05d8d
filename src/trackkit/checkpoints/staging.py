"""Keeps a checkpoint's files when the framework deletes them: links to them in the run's folder, else copies.

A hard link takes no space and no time, and shares the file's content: one that is rewritten in place changes here too.
So each file's inode, size and time of change are noted, and compared before the content counts.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from trackkit.checkpoints.entry import Entry, File
from trackkit.checkpoints.hashing import md5
from trackkit.checkpoints.ledger import STAGING
from trackkit.local_log.private import make_folder

REWRITTEN: Mapping[str, str] = {
    "*.distcp": "torch.distributed.checkpoint's FileSystemWriter opens `__0_0.distcp` with 'wb': a folder such as "
    "Lightning's `last.ckpt` that is saved again is written in place (torch 2.12, filesystem.py).",
    "trainer_state.json": "transformers' TrainerState.save_to_json opens it with 'w', also in a `checkpoint-N` that is "
    "saved again at the same step (transformers 5, trainer_callback.py).",
}
"""Files that frameworks are known to rewrite in place, and the source: they are copied rather than linked."""

IN_PLACE: Mapping[str, str] = {
    "loop": "torch.save opens a path with 'wb' (torch 2.13, serialization.py): `last.pt` is written in place.",
    "accelerate": "Accelerator.save_state writes the same names into a folder, `optimizer.bin` with torch.save "
    "(accelerate 1.15, checkpointing.py).",
}
"""Frameworks that write a path anew in place, and the source.

In case the next save does so, their first is copied, and the first to each path without a number, such as `best.pt`.
"""

OPTIMIZER = (
    *("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth", "random_states_*.pkl"),
    *("optimizer_*/*", "global_step*/*optim_states.pt"),
)
"""Files that continue a training and that inference does not need: `weights_only` leaves them out."""

SMALL = 1 << 20
"""Bytes up to which such a file is copied at the save, in a millisecond, and not by the worker, if one rank saves."""

QUIET_S = 1.0
"""A shared folder counts as written once nothing in it has changed for so long."""

_BLOCK = 1 << 22
PARTS_S = 10.0
"""Parts that are missing for so long are on another node's disk, or their rank was killed."""

_FICLONE = 0x40049409


class Gone(Exception):
    """The framework has deleted a file before it was staged."""


class Changed(Exception):
    """A file is no longer the one that was saved."""


def note(path: Path, weights_only: bool = False) -> tuple[File, ...]:
    """Returns the files of a checkpoint, a file or a folder, as they are now.

    Args:
        path: where the framework saved it.
        weights_only: leaves out the files of `OPTIMIZER`.

    Raises:
        OSError: it can't be read, or is missing.
    """
    if not path.is_dir():
        return (_noted(path.name, path),)
    names = sorted(_names(path))
    kept = [name for name in names if not (weights_only and _matches(name, OPTIMIZER))]
    found = []
    for name in kept:
        # Another rank may have renamed it.
        with suppress(FileNotFoundError):
            found.append(_noted(name, path / name))
    return tuple(found)


class Staging:
    """The folder with the staged files of a run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / STAGING
        self._clones = True
        # Held while a folder is made: `free`, in the worker, removes an empty one.
        self._lock = threading.Lock()
        # Why the last file could not be linked.
        self.error: OSError | None = None
        # Path to inode to file, as it was saved last.
        self._written: dict[str, dict[int, File]] = {}
        # Numbers of the entries whose files are copied, since the next save changes them.
        self._copied: set[int] = set()

    def folder(self, number: int) -> Path:
        """Returns where the files of an entry lie."""
        return self.home / str(number)

    def link(self, entry: Entry) -> bool:
        """Links what can be linked; returns whether nothing is left to copy. Takes milliseconds, and raises nothing."""
        if self._is_written_in_place(entry):
            self._copied.add(entry.number)
        left = [file for file in entry.files if not self._link_file(entry, file)]
        return not left

    def copy(self, entry: Entry) -> Entry:
        """Copies what could not be linked; returns the entry with its files as they are staged. May take long.

        Raises:
            Gone: a file is no longer there.
            Changed: a file is no longer the one that was saved.
            OSError: there is no space, or no permission.
        """
        files = []
        for file in entry.files:
            target = self.folder(entry.number) / file.name
            if not target.exists():
                self._copy_or_move(_source(entry, file), target, file)
            remove(_held(target))
            staged = _noted(file.name, target)
            # A link stays as it was noted at the save; a copy is a file of its own.
            files.append(file if staged.inode == file.inode else staged)
        return replace(entry, files=tuple(files))

    def rescan(self, entry: Entry, weights_only: bool) -> Entry:
        """Adds files that other ranks have written to a shared folder since; keeps those that the framework deleted."""
        with suppress(OSError):
            known = {file.name: file for file in entry.files}
            known.update({file.name: file for file in note(Path(entry.path), weights_only)})
            entry = replace(entry, files=tuple(known[name] for name in sorted(known)))
        staged = []
        for file in entry.files:
            path = self.folder(entry.number) / file.name
            if self._link_file(entry, file) or path.exists():
                file = _noted(file.name, path)
            staged.append(file)
        return replace(entry, files=tuple(staged))

    def changed(self, entry: Entry) -> str:
        """Returns the name of a staged file that is missing, or not as it was noted; "" if there is none."""
        folder = self.folder(entry.number)
        missing = (file.name for file in entry.files if not (folder / file.name).is_file())
        return next(missing, "") or self.rewritten(entry)

    def rewritten(self, entry: Entry) -> str:
        """Returns the name of a staged file that is not as it was noted; "" if there is none, or if all are deleted."""
        folder = self.folder(entry.number)
        there = (file for file in entry.files if (folder / file.name).is_file())
        return next((file.name for file in there if not holds(folder / file.name, file)), "")

    def free(self, number: int) -> None:
        """Removes the files of an entry."""
        if self.home.is_symlink():
            # What is behind it may be somebody else's.
            return
        shutil.rmtree(self.folder(number), ignore_errors=True)
        with suppress(OSError), self._lock:
            self.home.rmdir()

    def tidy(self, entries: Collection[Entry]) -> None:
        """Removes what a process that was killed has left of entries that are not present, or committed.

        Without any entry, nothing: the ledger can't be read, and the files may be the only copy.
        """
        kept = {each.number for each in entries if each.is_present and each.state != "committed"}
        for number in set(self.numbers()) - kept if entries else ():
            self.free(number)

    def numbers(self) -> list[int]:
        """Returns the numbers of the entries that have files here."""
        with suppress(OSError):
            return sorted(int(name) for name in os.listdir(self.home) if name.isdecimal())
        return []

    def _is_written_in_place(self, entry: Entry) -> bool:
        """Returns whether the next save will change the files of this one, as far as earlier saves show it."""
        before, is_first = self._written.get(entry.path), not self._written
        self._written[entry.path] = {file.inode: file for file in entry.files}
        if before is not None:
            return any(not same(file, before.get(file.inode, file)) for file in entry.files)
        has_number = re.search(r"\d", os.path.basename(entry.path)) is not None
        return entry.framework in IN_PLACE and (is_first or not has_number)

    def _link_file(self, entry: Entry, file: File) -> bool:
        target = self.folder(entry.number) / file.name
        try:
            if target.exists():
                return True
            self._make_folder(target)
            # `os.link` follows no link: the file that Lightning's `save_last="link"` points to is meant.
            source = os.path.realpath(_source(entry, file))
            # A copy of what another rank still writes would be cut short: those are made once the folder is quiet.
            if not entry.shared and self._clones and self._clone(source, target):
                # A clone is a file of its own, which `copy` notes; it must be one of what was saved.
                if not same(_noted(file.name, Path(source)), file):
                    remove(target)
                return False
            if entry.number in self._copied or _matches(file.name, REWRITTEN):
                if file.size <= SMALL and not entry.shared:
                    # The worker may be late, and the whole checkpoint would be lost for one small file.
                    with suppress(Gone, Changed):
                        self._copy_file(Path(source), target, file)
                else:
                    # The worker copies it, also if it is deleted before.
                    os.link(source, _held(target))
                return False
            os.link(source, target)
        except OSError as error:
            self.error = error
            return False
        return True

    def _make_folder(self, target: Path) -> None:
        with self._lock:
            make_folder(target.parent)

    def _clone(self, source: str, target: Path) -> bool:
        """Makes a copy that shares the blocks on disk (btrfs, XFS); returns whether the file system can."""
        spare = spare_of(target)
        try:
            import fcntl

            with open(source, "rb") as given, spare.open("wb") as file:
                fcntl.ioctl(file.fileno(), _FICLONE, given.fileno())
            os.replace(spare, target)
        except (OSError, ImportError) as error:
            remove(spare)
            unable = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS)
            self._clones = isinstance(error, OSError) and error.errno not in unable
            return False
        return True

    def _copy_or_move(self, source: Path, target: Path, file: File) -> None:
        """Copies a file. If it is deleted, and held by a link of ours, the link becomes the staged file."""
        held = _held(target)
        if not held.exists() or not same(_noted(file.name, held), file):
            self._copy_file(source, target, file)
        elif held.stat().st_nlink == 1:
            os.replace(held, target)
        else:
            self._copy_file(held, target, file)

    def _copy_file(self, source: Path, target: Path, file: File) -> None:
        spare = spare_of(target)
        try:
            self._make_folder(target)
            with _opened(source, file) as given, spare.open("wb") as copy:
                _check(given.fileno(), file)
                shutil.copyfileobj(given, copy, _BLOCK)
                _check(given.fileno(), file)
            os.replace(spare, target)
        except BaseException:
            remove(spare)
            raise


def same(now: File, then: File) -> bool:
    """Returns whether a file is still the one that was noted."""
    return (now.inode, now.size, now.mtime) == (then.inode, then.size, then.mtime)


def holds(path: Path, file: File) -> bool:
    """Returns whether a file has the content that was noted, also in a copy of the folder; hashes it if it must.

    Raises:
        OSError: it can't be read.
    """
    now = _noted(file.name, path)
    if same(now, file) or now.size != file.size:
        return now.size == file.size
    return md5(path) == file.md5 if file.md5 else now.mtime == file.mtime


def is_quiet(entry: Entry, now: float) -> bool:
    """Returns whether no file of an entry has changed for `QUIET_S`, at the Unix time `now` in seconds."""
    # A file server's clock may be ahead.
    return all(abs(now - file.mtime / 1e9) > QUIET_S for file in entry.files)


def missing_parts(entry: Entry) -> list[str]:
    """Returns the parts that other ranks write last and that are not there; none if the framework has deleted all."""
    folder = Path(entry.path)
    return [part for part in entry.parts if not (folder / part).exists()] if folder.is_dir() else []


def _source(entry: Entry, file: File) -> Path:
    path = Path(entry.path)
    return path / file.name if path.is_dir() or path.name != file.name else path


def _opened(source: Path, file: File) -> IO[bytes]:
    try:
        return source.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Gone(file.name) from error


def _check(source: int, file: File) -> None:
    if not same(_noted(file.name, source), file):
        raise Changed(file.name)


def _noted(name: str, path: Path | int) -> File:
    found = os.stat(path)
    return File(name, found.st_size, found.st_ino, found.st_mtime_ns)


def _names(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.is_file():
                yield path.relative_to(folder).as_posix()


def _matches(name: str, patterns: Mapping[str, str] | tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(part, pattern) for pattern in patterns for part in (name, name.rpartition("/")[2]))


def spare_of(target: Path) -> Path:
    """Returns where a file is written before it takes its place."""
    """Returns where a file is written until it is whole."""
    return target.with_name(f".{target.name}.part")


def _held(target: Path) -> Path:
    """Returns the link to a file that is to be copied."""
    return target.with_name(f".{target.name}.held")


def remove(path: Path) -> None:
    """Removes a file if it can be removed."""
    with suppress(OSError):
        path.unlink()
