"""What a failed run leaves behind: its error in one line, and its last words in its folder."""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

from trackkit.engine.records import Line
from trackkit.local_log.private import opener
from trackkit.redaction.patterns import mask

LAST_WORDS = "last_words.txt"
_MAX_LINE, _MAX_TRACEBACK, _ROWS, _TAIL_BYTES = 300, 50_000, 5, 1 << 16


def error_line(error: BaseException) -> str:
    """Returns an error as one line of at most 300 characters: type, message, file and line; secrets masked."""
    said = " ".join("".join(traceback.format_exception_only(error)).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    said = mask(said)
    return (said if len(said) <= _MAX_LINE - len(where) else said[: _MAX_LINE - len(where) - 3] + "...") + where


def error_text(error: BaseException) -> str:
    """Returns an error's traceback, secrets masked; of a very long one its end."""
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


def last_step(folder: Path) -> int | None:
    """Returns the step of the last row; None without rows."""
    for row in reversed(last_rows(folder)):
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            values = json.loads(row)
            return int(values["batch/step"] if "batch/step" in values else values["epoch/step"])
    return None


def last_rows(folder: Path) -> list[str]:
    """Returns the last lines of the run's `rows.jsonl`."""
    try:
        with (folder / "rows.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            tail = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return tail.splitlines()[-_ROWS:]
