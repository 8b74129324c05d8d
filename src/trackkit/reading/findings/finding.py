"""One thing that a detector found in a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")


@dataclass(frozen=True)
class Finding:
    """One thing that a detector found in a run.

    Attributes:
        rule: name of the detector: `divergence`, `overfitting`, ...
        severity: `high` where the result can't be used, `medium` where it is worse or dearer than it need be, `low`
            where it is worth knowing.
        text: one sentence with the numbers.
        key: of the metric that shows it; "" without one.
        steps: first and last optimizer step of it; None for the run as a whole.
        confidence: how sure the detector is, 0 to 1.
        advice: what to try; "" without any.
    """

    rule: str
    severity: Severity
    text: str
    key: str = ""
    steps: tuple[float, float] | None = None
    confidence: float = 1.0
    advice: str = ""
