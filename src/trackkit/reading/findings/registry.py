"""The list of detectors, and what all of them find in a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trackkit.local_log.recorded import RecordedRun
from trackkit.notices import logger
from trackkit.reading.collection import Runs
from trackkit.reading.findings.finding import SEVERITIES, Finding

Detector = Callable[[RecordedRun, Runs], list[Finding]]

DETECTORS: Sequence[Detector] = ()


def findings(run: RecordedRun, others: Runs | None = None) -> list[Finding]:
    """Returns what the detectors find in a run, most serious first; a detector that fails finds nothing.

    Args:
        run: the run.
        others: runs to compare it with, such as those of its group.
    """
    found: list[Finding] = []
    for detector in DETECTORS:
        try:
            found += detector(run, others or Runs(()))
        except Exception:  # noqa: BLE001 -- a digest of the others is better than none
            logger.debug("%s failed", detector.__name__, exc_info=True)
    return sorted(found, key=lambda each: (SEVERITIES.index(each.severity), -each.confidence))
