"""Appends lines to a file that is not kept open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trackkit.local_log.private import opener


class LineFile:
    """Appends lines to a file. No descriptor stays open: a program may close or inherit it.

    Args:
        path: of the file.

    Attributes:
        size: bytes in the file so far.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size if path.exists() else 0
        self._cut = self.size > 0 and not _ends_line(path)

    def append(self, lines: Sequence[str]) -> None:
        """Appends lines, in one write.

        Raises:
            OSError: they could not be written, or not all of them.
        """
        # The first line must not join one that a crash or a full disk cut short.
        data = ("\n" * self._cut + "\n".join(lines) + "\n").encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = opener(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._cut = True
        try:
            written = os.write(file, data)
        finally:
            os.close(file)
        self.size += written
        if written < len(data):
            raise OSError(f"only {written} of {len(data)} bytes were written to '{self._path}'")
        self._cut = False


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
