"""Appends whole lines to a file, even if the program closes its descriptor, or moves or changes the file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from trackkit.local_log.private import opener


class RowFile:
    """Appends whole lines to a file.

    A program may close the descriptor, whose number the system then gives to another file; or it may move, delete or
    shorten the file. Two `stat` calls per line detect this.

    Args:
        path: of the file; it is made if it does not exist.

    Attributes:
        folder: the file's, as it was found last.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.folder = path, path.parent
        self._file = -1
        self._node = (0, 0)
        self._size = 0
        self._is_cut = False
        self._open()

    def find(self) -> bool:
        """Follows the file if it was moved. Returns False if it was deleted, replaced or shortened."""
        with contextlib.suppress(OSError):
            there = os.stat(self._path)
            if _node(there) == self._node:
                return there.st_size >= self._size
        mine = self._stat()
        if mine is not None and mine.st_nlink:
            with contextlib.suppress(OSError):
                path = Path(os.readlink(f"/proc/self/fd/{self._file}"))
                if _node(os.stat(path)) == self._node:
                    self._path, self.folder = path, path.parent
                    return True
        return False

    def restart(self) -> None:
        """Begins again with the file that is at the path now, or a new one."""
        self.close()
        self._open()

    def append(self, line: str) -> None:
        """Appends a line as a whole, or not at all.

        Raises:
            OSError: the line could not be written.
        """
        if self._stat() is None:
            self._open()
        start = self._size
        data = ("\n" * self._is_cut + line + "\n").encode()
        try:
            rest = data
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            # What is left of a cut line could be read as a row, and the row is written again.
            try:
                os.ftruncate(self._file, start)
            except OSError:
                self._size, self._is_cut = os.fstat(self._file).st_size, True
            raise
        self._size, self._is_cut = start + len(data), False

    def close(self) -> None:
        """Closes the file."""
        if self._stat() is not None:
            os.close(self._file)
        self._file = -1

    def _open(self) -> None:
        self._file = opener(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        found = os.fstat(self._file)
        self._node, self._size = _node(found), found.st_size
        # The first row must not join a line that a crash cut short.
        self._is_cut = self._size > 0 and os.pread(self._file, 1, self._size - 1) != b"\n"

    def _stat(self) -> os.stat_result | None:
        """Returns the descriptor's `stat`; None if the descriptor is no longer this file's."""
        with contextlib.suppress(OSError):
            found = os.fstat(self._file)
            if _node(found) == self._node:
                return found
        return None


def _node(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
