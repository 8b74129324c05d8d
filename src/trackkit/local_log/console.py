"""The console in a run's folder: `console.jsonl` of rank 0, `console.rank<N>.jsonl` of the others."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trackkit.engine.records import Line
from trackkit.local_log.line_file import LineFile
from trackkit.local_log.regular import parse_json, regular
from trackkit.redaction.patterns import clip, mask

MAX_LINE = 8000

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def console_name(rank: int = 0) -> str:
    """Returns the name of a rank's file."""
    return f"console.rank{rank}.jsonl" if rank else "console.jsonl"


class ConsoleFile(LineFile):
    """Appends what the program printed to a rank's file."""

    def write(self, lines: Iterable[Line]) -> None:
        """Appends lines, in one write.

        Raises:
            OSError: they could not be written, or not all of them.
        """
        self.append(
            [_encode({"_time": round(time, 6), "stream": stream, "text": text}) for time, stream, text in lines]
        )


def read_console(path: Path, size: int = -1) -> list[Line]:
    """Returns the lines in a file, in the order written; skips damaged ones.

    Args:
        path: of the file.
        size: bytes to read from its start; -1 for all.
    """
    try:
        with regular(path).open("rb") as file:
            data = file.read(size)
    except OSError:
        return []
    lines = []
    for each in data.decode("utf-8", "replace").split("\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError):
            line = parse_json(each)
            lines.append(Line(float(line["_time"]), str(line["stream"]), str(line["text"])))
    return lines


def masked(lines: Sequence[Line]) -> list[Line]:
    """Returns the lines cut at 8,000 characters, with secrets masked; what UTF-8 can't encode is escaped."""
    # Masking all lines at once takes a third of the time, and finds secrets that the line before marks.
    texts = {
        stream: [_clip(line.text) for line in lines if line.stream == stream] for stream in {line[1] for line in lines}
    }
    done = {}
    for stream, each in texts.items():
        parts = mask("\n".join(each)).split("\n")
        done[stream] = iter(parts if len(parts) == len(each) else map(mask, each))
    return [line._replace(text=next(done[line.stream])) for line in lines]


def _clip(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    kept = clip(text, MAX_LINE)
    return text if kept == text else f"{kept} [{len(text) - len(kept)} characters left out]"


def output_files() -> dict[str, dict[str, Any]]:
    """Returns the regular files that stdout and stderr go to, and their sizes; nothing for terminals and pipes.

    The output of subprocesses and C libraries, which is not recorded, is there too.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, number in (("stdout", 1), ("stderr", 2)):
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{number}")
            if os.path.isfile(path):
                found[name] = {"file": path, "from_byte": os.fstat(number).st_size}
    return found
