"""Sends TrackKit's console lines to a W&B run: W&B's own capture is off for runs that TrackKit starts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trackkit.engine.records import Line
from trackkit.engine.run_info import RunInfo
from trackkit.integrations.wandb.files import find_files, read_logger_lines
from trackkit.integrations.wandb.server import Unanswered, ask
from trackkit.local_log.console import console_name, read_console
from trackkit.notices import logger

if TYPE_CHECKING:
    import wandb


def to_texts(lines: Iterable[Line]) -> list[str]:
    """Returns lines as W&B shows them, each with its own time (UTC): W&B's is that of the upload."""
    return [f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(line.time))} {line.text}" for line in lines]


def lines_there(texts: Sequence[str], count: int, last: str) -> int:
    """Returns how many lines a server has; a line that an upload cut short does not count, and is sent again.

    Args:
        texts: all lines, in the order in which they were sent.
        count: lines on the server, which may have others before or between them.
        last: the last line there.
    """
    last = last.rstrip()
    if not 0 < count <= len(texts) or texts[count - 1].rstrip() != last:
        found = next((number for number in range(len(texts), 0, -1) if texts[number - 1].rstrip() == last), 0)
        if found and count:
            return found
        if 0 < count <= len(texts):
            return count - texts[count - 1].startswith(last)
    return min(count, len(texts))


def earlier_lines(run: wandb.Run, info: RunInfo, size: int) -> list[Line]:
    """Returns the lines of earlier attempts that W&B lacks: a killed attempt's last ones; none if that is unknown.

    Args:
        run: the run, resumed; nothing of this attempt's console was sent yet.
        info: its description.
        size: bytes of the run's console when this attempt started.
    """
    lines = read_console(info.folder / console_name(), size)
    texts = to_texts(lines)
    if not texts:
        return []
    if run.offline:
        files = [path for path in find_files(info.root, info.run_id) if path.parent != Path(run.dir).parent]
        sent = [line for path in files for line in read_logger_lines(path)]
        # Deleted files were uploaded before: then nothing is missing.
        return lines[lines_there(texts, len(sent), sent[-1] if sent else "") :] if files else []
    path = f"{run.entity}/{run.project}/{run.id}"
    try:
        there = ask(lambda api: [(int(line.number), str(line.content)) for line in api.run(path).console_logs(last=1)])
    except Unanswered as error:
        logger.warning(
            "Cannot read the console of run '%s' from W&B (%s); it may lack lines of earlier attempts.", run.id, error
        )
        return []
    number, last = there[-1] if there else (-1, "")
    return lines[lines_there(texts, number + 1, last) :]
