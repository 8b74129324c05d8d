"""How many lines of console output W&B makes of what a program printed.

Measured on W&B 0.31: its terminal knows the end of a line, the carriage return, and the way up that tqdm goes
(`ESC [ A`); all else is text. A line that is written over is one line, and empty lines count where text follows.
"""

from __future__ import annotations

import re
from typing import Any

_PARTS = re.compile(r"\n|\x1b\[A|(?:(?!\x1b\[A)[^\n])+")
_CUT = re.compile(r"\x1b\[?\Z")


class Console:
    """Counts the lines of one process's output, as W&B's transaction log has it: stdout and stderr each by itself."""

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}

    def take(self, record: Any) -> None:
        """Takes a record of the log; one of output is any piece of it."""
        if record.WhichOneof("record_type") == "output_raw":
            self._streams.setdefault(record.output_raw.output_type, _Stream()).add(record.output_raw.line)

    @property
    def lines(self) -> int:
        """The lines so far."""
        return sum(stream.lines for stream in self._streams.values())


class _Stream:
    """What is printed to a terminal, of which only the row matters."""

    def __init__(self) -> None:
        self.lines = 0
        self._row = 0
        self._cut = ""

    def add(self, text: str) -> None:
        text = self._cut + text
        cut = _CUT.search(text)
        self._cut = cut[0] if cut else ""
        for part in _PARTS.findall(text.removesuffix(self._cut)):
            if part == "\n":
                self._row += 1
            elif part == "\x1b[A":
                self._row = max(0, self._row - 1)
            elif part.strip("\r"):
                self.lines = max(self.lines, self._row + 1)
