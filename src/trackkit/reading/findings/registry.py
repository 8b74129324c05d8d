"""The list of detectors, and what all of them find in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from trackkit.local_log.recorded import RecordedRun
from trackkit.notices import logger
from trackkit.reading.collection import Runs
from trackkit.reading.findings import end, evaluation, gradients, learning_rate, loss, memory, speed
from trackkit.reading.findings.evidence import Evidence
from trackkit.reading.findings.finding import SEVERITIES, Finding

Detector = Callable[[Evidence], Iterator[Finding]]

# Causes before their symptoms: among equally serious findings, the first is the likely cause.
DETECTORS: Sequence[Detector] = (
    end.resume_seam,
    learning_rate.learning_rate_zero,
    learning_rate.learning_rate_high,
    gradients.exploding_gradients,
    loss.divergence,
    loss.nan,
    end.crash,
    gradients.frozen,
    gradients.clipping,
    gradients.vanishing_gradients,
    learning_rate.learning_rate_low,
    learning_rate.schedule,
    loss.no_learning,
    evaluation.no_generalization,
    evaluation.overfitting,
    evaluation.leak,
    memory.memory_growth,
    speed.data_starvation,
    speed.throughput_decay,
    speed.slow_rank,
    gradients.skipped_steps,
    loss.loss_spike,
    loss.too_few_steps,
    loss.plateau,
    end.code,
)


def findings(run: RecordedRun, others: Runs | None = None) -> list[Finding]:
    """Returns what the detectors find in a run, most serious first; a detector that fails finds nothing.

    Args:
        run: the run.
        others: runs to compare it with, such as those of its group.
    """
    return findings_in(Evidence(run, others if others is not None else Runs(())))


def findings_in(evidence: Evidence, detectors: Sequence[Detector] = DETECTORS) -> list[Finding]:
    """Returns what detectors find, as `findings` does."""
    found: list[Finding] = []
    for detector in detectors:
        try:
            found += detector(evidence)
        except Exception:  # noqa: BLE001 -- what the others find is better than nothing
            logger.debug("%s failed", detector.__name__, exc_info=True)
    return sorted(found, key=lambda each: SEVERITIES.index(each.severity))
