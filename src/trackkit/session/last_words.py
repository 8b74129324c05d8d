"""Describes a failed run: its error in one line, and `last_words.txt` in its folder."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from trackkit.engine.records import Line
from trackkit.local_log.private import opener
from trackkit.local_log.reader import last_rows
from trackkit.redaction.patterns import mask

LAST_WORDS = "last_words.txt"
_MAX_LINE, _MAX_TRACEBACK = 300, 50_000


def error_line(error: BaseException) -> str:
    """Returns an error as one line of at most 300 characters: type, message, file and line; secrets masked."""
    said = " ".join("".join(traceback.format_exception_only(error)).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    said = mask(said)
    return (said if len(said) <= _MAX_LINE - len(where) else said[: _MAX_LINE - len(where) - 3] + "...") + where


def error_text(error: BaseException) -> str:
    """Returns an error's traceback, secrets masked; only the end of a very long one."""
    return mask("".join(traceback.format_exception(error)))[-_MAX_TRACEBACK:]


def write_last_words(folder: Path, head: str, error: str, lines: Sequence[Line]) -> Path:
    """Writes `last_words.txt`: the traceback, the last rows and the last lines printed. Returns its path.

    Args:
        folder: of the run.
        head: its first line.
        error: the traceback.
        lines: the last lines that the program printed.
    """
    printed = [line.text for line in sorted(lines, key=lambda line: line.time)]
    text = "\n".join([head, "", error, "Last rows:", *last_rows(folder), "", "Last lines printed:", *printed, ""])
    path = folder / LAST_WORDS
    with open(path, "w", encoding="utf-8", errors="backslashreplace", opener=opener) as stream:
        stream.write(text)
    return path
