"""Findings in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trackkit.reading.columns import plain
from trackkit.reading.findings.evidence import Evidence
from trackkit.reading.findings.finding import Finding

_CURVES = ("device/gpu_mem_allocated_GB", "device/gpu_mem_reserved_GB", "device/rss_GB")
_TOTALS = {"device/rss_GB": "runtime/memory_GB"}


def memory_growth(run: Evidence) -> Iterator[Finding]:
    """Finds memory that grows to the end of training.

    Rule: of five readings or more that differ, after the first fifth of the steps, the means of four parts rise, each
    by 5% of the whole growth at least, and the growth is 10% and 0.1 GB. Medium; high if the memory known to the config
    is full within as many steps as were trained.
    """
    for key in _CURVES:
        memory = run.finite(key)
        changed = np.flatnonzero(np.diff(memory.y, prepend=np.nan) != 0) if len(memory) else np.empty(0, int)
        changed = (
            changed[memory.x[changed] >= memory.x[0] + 0.15 * (memory.x[-1] - memory.x[0])] if len(changed) else changed
        )
        x, y = memory.x[changed], memory.y[changed]
        if len(y) < 4:
            continue
        growth = float(y[-1] - y[0])
        means = np.array([part.mean() for part in np.array_split(y, 4)])
        if growth < max(0.1, 0.1 * y[0]) or (np.diff(means) < 0.05 * growth).any():
            continue
        per_step = growth / (x[-1] - x[0])
        total = run.number(_TOTALS.get(key, "runtime/gpu_memory_GB"))
        left = (total - y[-1]) / per_step if total else np.inf
        ends = f"; all {plain(total)} GB are full in about {left:.0f} more steps" if total else ""
        yield Finding(
            "memory_growth",
            "high" if left < x[-1] else "medium",
            f"Memory grew all the time: `{key}` from {plain(float(y[0]))} to {plain(float(y[-1]))} GB, "
            f"{plain(1000 * per_step, 2)} GB per 1,000 steps{ends}.",
            key,
            (float(x[0]), float(x[-1])),
            0.8,
            "Look for tensors kept with their graph (`loss` in a list: use `loss.item()`), growing caches, and "
            "logged data.",
        )
        return
