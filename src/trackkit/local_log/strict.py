"""Strict JSON has no NaN and no infinities: the local log, and what the commands print, have words for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def strict(value: Any) -> Any:
    """Returns a value with NaN and infinities, also those within it, as "NaN", "Infinity" and "-Infinity"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, (list, tuple)) else value


def finite_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the row with "NaN", "Infinity" and "-Infinity" as floats."""
    return {
        key: NOT_FINITE[value] if isinstance(value, str) and value in NOT_FINITE else value
        for key, value in row.items()
    }
