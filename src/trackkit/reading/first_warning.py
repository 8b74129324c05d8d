"""The first thing that a digest would warn of, in bounded time: for the last lines of a training."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from trackkit.local_log.reader import parse_rows, read_folder
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import regular
from trackkit.notices import logger
from trackkit.reading.collection import Runs
from trackkit.reading.findings import end, loss
from trackkit.reading.findings.evidence import Evidence
from trackkit.reading.findings.registry import DETECTORS, findings_in

# Said by other closing lines, or of no use there, as after a trial of a few steps.
_ELSEWHERE = (end.crash, end.code, loss.nan, loss.too_few_steps)
# Of a longer log some blocks are read: 20 ms of work.
_MOST_BYTES = 1 << 19
_BLOCKS = 32


def first_warning(folder: Path, status: str) -> str:
    """Returns the first serious finding of a run that ends, as a sentence; "" if there is none, or if it can't be read.

    Of a log over 0.5 MB only blocks from all over it are read.

    Args:
        folder: the run folder.
        status: of the run, which `run.json` may not have yet.
    """
    try:
        run = read_folder(folder)
        run = replace(run, run={**run.run, "status": status})
        detectors = [each for each in DETECTORS if each not in _ELSEWHERE]
        if os.path.getsize(folder / "rows.jsonl") > _MOST_BYTES:
            run = _sampled(run, folder / "rows.jsonl")
            # The rows around a seam may not be among those read.
            detectors.remove(end.resume_seam)
        found = findings_in(Evidence(run, Runs(())), detectors)
        return next((each.text for each in found if each.severity != "low"), "")
    except Exception:  # noqa: BLE001 -- a training ends without advice rather than with an error
        logger.debug("no advice at the end of the training", exc_info=True)
        return ""


def _sampled(run: RecordedRun, path: Path) -> RecordedRun:
    """Returns a run with the rows of some blocks, evenly spread, with the first and the last among them."""
    size, block = os.path.getsize(path), _MOST_BYTES // _BLOCKS
    parts: list[str] = []
    with open(regular(path), "rb") as file:
        for number in range(_BLOCKS):
            start = number * (size - block) // (_BLOCKS - 1)
            file.seek(start)
            text = file.read(block).decode("utf-8", "replace")
            # The first and the last line of a block may be cut.
            parts += text.split("\n")[1 if start else 0 : -1]
    rows, _ = parse_rows("\n".join(parts), {})
    return replace(run, load=lambda: (rows, ()))
