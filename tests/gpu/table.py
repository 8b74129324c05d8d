"""The table that the checks print."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "FAILED", "skipped"]


@dataclass(frozen=True)
class Line:
    """One line: what was checked, on which training, what was found and what was expected."""

    check: str
    case: str
    found: str
    expected: str
    verdict: Verdict

    @classmethod
    def of(cls, check: str, case: str, found: object, expected: object, good: bool) -> Line:
        return cls(check, case, str(found), str(expected), "ok" if good else "FAILED")

    @classmethod
    def skipped(cls, check: str, case: str, why: str) -> Line:
        return cls(check, case, why, "", "skipped")


def largest_difference(found: Iterable[float], expected: Iterable[float]) -> float:
    """Returns the largest relative difference; values that are both not finite are equal, one alone is inf."""
    largest = 0.0
    for one, other in zip(found, expected, strict=True):
        if math.isfinite(one) and math.isfinite(other):
            largest = max(largest, abs(one - other) / max(abs(other), 1e-12))
        elif math.isfinite(one) != math.isfinite(other):
            return math.inf
    return largest


def as_markdown(lines: list[Line]) -> str:
    """Returns the lines as a Markdown table, as `docs/performance.md` shows it."""
    head = ("check", "training", "found", "expected", "")
    rows = [head, *((line.check, line.case, line.found, line.expected, line.verdict) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])
