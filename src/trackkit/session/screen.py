"""Turns what a program writes to a terminal into lines; records a rewritten line (a progress bar) now and then."""

from __future__ import annotations

import re

from trackkit.engine.records import Line

# Seconds: a rewritten row is recorded once it has not changed for STILL_S, and then at most every AGAIN_S.
STILL_S, AGAIN_S = 2.0, 10.0
ROWS = 40
MAX_ROW = 1 << 16

_SPECIAL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TOKEN = re.compile(
    r"\x1b\[(?P<number>[0-9;?<=>!]*)[ -/]*(?P<code>[@-~])|\x1b[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]+.|"
    r"\x1b[^\[\]P_^X]|(?P<text>[^\x00-\x08\x0a-\x1f\x7f-\x9f]+)|.",
    re.DOTALL,
)
_CUT = re.compile(r"(?:\r|\x1b(?:\[[0-9;?<=>!]{0,64}[ -/]?|[\]P_^X][^\x07\x1b]{0,999}\x1b?|[ -/])?)\Z")


class _Row:
    """One row of the screen: its text, when that was first and last written, and what was last recorded of it."""

    __slots__ = ("began", "left", "live", "recorded", "recorded_at", "text", "time")

    def __init__(self, time: float = 0.0, text: str = "") -> None:
        self.text = text
        self.began = self.time = time
        self.recorded: str | None = None
        self.recorded_at = 0.0
        self.live = self.left = False

    @property
    def is_new(self) -> bool:
        return bool(self.text.strip()) and self.text.rstrip() != (self.recorded or "").rstrip()


class Screen:
    """Imitates a terminal of 40 rows without colors for one stream.

    Understands line feed, carriage return, backspace, and the escape sequences A B C D G J K; ignores all others.

    Args:
        stream: `stdout` or `stderr`.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._rows = [_Row()]
        self._row = self._column = 0
        self._cut = ""

    def write(self, time: float, text: str) -> list[Line]:
        """Returns the lines that this text completes; an escape sequence cut off at its end waits for the rest."""
        text = (self._cut + text).replace("\r\n", "\n")
        cut = _CUT.search(text)
        self._cut = cut[0] if cut else ""
        text = text[: len(text) - len(self._cut)]
        row = self._rows[self._row]
        at_end = self._row == len(self._rows) - 1 and self._column == len(row.text) and not row.live
        if at_end and not _SPECIAL.search(text):
            found = self._append(time, text, row)
        else:
            found = []
            for token in _TOKEN.finditer(text):
                self._apply(time, token, found)
        while len(self._rows) > ROWS:
            found += self._record(self._rows.pop(0), time)
            self._row = max(0, self._row - 1)
        return found

    def due(self, now: float) -> list[Line]:
        """Returns the rewritten and unfinished rows that are to be recorded by now."""
        found: list[Line] = []
        for row in self._rows:
            first = not row.recorded_at
            if now - (row.began if first else row.recorded_at) >= AGAIN_S or (first and now - row.time >= STILL_S):
                found += self._record(row, now)
        return found

    def last(self, now: float) -> list[Line]:
        """Returns the last state of every row that has changed since it was recorded."""
        return [line for row in self._rows for line in self._record(row, now)]

    def _record(self, row: _Row, now: float) -> list[Line]:
        if not row.is_new:
            return []
        row.recorded, row.recorded_at = row.text, now
        return [Line(row.time, self._stream, row.text.rstrip())]

    def _append(self, time: float, text: str, row: _Row) -> list[Line]:
        """Appends plain text to the last row, without parsing it."""
        first, *rest = text.split("\n")
        row.text, row.time, row.began = row.text + first, time, row.began or time
        if not rest:
            self._column = len(row.text)
            return self._split(time, row)
        found = [Line(time, self._stream, line) for line in rest[:-1]]
        if row.text != row.recorded:
            found.insert(0, Line(time, self._stream, row.text))
        row.recorded, row.recorded_at, row.left = row.text, time, True
        for line in rest[-ROWS:-1]:
            done = _Row(time, line)
            done.recorded, done.recorded_at, done.left = line, time, True
            self._rows.append(done)
        self._rows.append(_Row(time if rest[-1] else 0.0, rest[-1]))
        self._row, self._column = len(self._rows) - 1, len(rest[-1])
        return found + self._split(time, self._rows[-1])

    def _split(self, time: float, row: _Row) -> list[Line]:
        """Ends a row that has grown too long."""
        if len(row.text) < MAX_ROW:
            return []
        found = self._record(row, time)
        self._rows[self._row], self._column = _Row(), 0
        return found

    def _apply(self, time: float, token: re.Match[str], found: list[Line]) -> None:
        row = self._rows[self._row]
        if token["text"]:
            # Text that replaces text, or continues a row that was left, changes that row.
            row.live |= row.left or self._column < len(row.text)
            end = self._column + len(token["text"])
            row.text = row.text[: self._column].ljust(self._column) + token["text"] + row.text[end:]
            row.time, row.began, self._column = time, row.began or time, end
            found += self._split(time, row)
        elif token[0] == "\n":
            if not row.live and row.text != row.recorded and (row.text or not any(each.live for each in self._rows)):
                found.append(Line(time, self._stream, row.text))
                row.recorded, row.recorded_at = row.text, time
            row.left = True
            self._row, self._column = self._row + 1, 0
            if self._row == len(self._rows):
                self._rows.append(_Row())
        elif token[0] in ("\r", "\b"):
            row.live = True
            self._column = 0 if token[0] == "\r" else max(0, self._column - 1)
        elif token["code"]:
            self._move(time, token["code"], token["number"], row, found)

    def _move(self, time: float, code: str, number: str, row: _Row, found: list[Line]) -> None:
        given = int(number) if number.isdecimal() and len(number) < 5 else 0
        if code == "A":
            self._row = max(0, self._row - max(1, given))
        elif code == "B":
            self._row = min(len(self._rows) - 1, self._row + max(1, given))
        elif code in "CDG":
            to = {"C": self._column + max(1, given), "D": self._column - max(1, given), "G": given - 1}[code]
            self._column = min(max(0, to), MAX_ROW - 1)
        elif code in "JK":
            row.live = True
            if code == "J" and given == 0:
                del self._rows[self._row + 1 :]
            elif code == "J":
                found += self.last(time)
                self._rows, self._row, self._column = [_Row()], 0, 0
                return
            row.text = (row.text[: self._column], " " * self._column + row.text[self._column :], "")[min(given, 2)]
