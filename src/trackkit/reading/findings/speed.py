"""Findings in time: starvation, decay, slow ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trackkit.reading.columns import plain
from trackkit.reading.curves import at_steps
from trackkit.reading.findings.evidence import Evidence
from trackkit.reading.findings.finding import Finding

# Under this, a step's waiting is overhead of the loader, which hardly any training can do without.
_LEAST_S = 0.005


def data_starvation(run: Evidence) -> Iterator[Finding]:
    """Finds a training that waits for its data.

    Rule: after the first two rows, over half of the time of all steps (medium; over 80%: high; over 30%: low) is spent
    waiting for data, and it is 5 ms a step at least.
    """
    step, data = run.finite("batch/step_time_s"), run.finite("batch/data_time_s")
    if len(step) < 5 or len(data) < 5:
        return
    y = at_steps(step, data.x)
    waited, whole = data.y[2:], y[2:]
    known = np.isfinite(whole) & (whole > 0)
    if not known.any():
        return
    share, each = float(waited[known].sum() / whole[known].sum()), float(np.median(waited[known]))
    if share > 0.3 and float(waited[known].mean()) > _LEAST_S:
        yield Finding(
            "data_starvation",
            "high" if share > 0.8 else "medium" if share > 0.5 else "low",
            f"Training waited for data {share:.0%} of the time: {plain(1000 * each)} of "
            f"{plain(1000 * float(np.median(whole[known])))} ms a step.",
            data.key,
            (float(data.x[2]), float(data.x[-1])),
            0.9,
            "Use more loader workers, `persistent_workers`, `pin_memory`, or prepare the data once before training.",
        )


def throughput_decay(run: Evidence) -> Iterator[Finding]:
    """Finds steps that take longer and longer.

    Rule: over twelve rows or more, without the first two, the median step time of the last quarter is 1.5 times that of
    the first (low), or twice (medium), the rank correlation of time and step is over 0.6, and the time lost is 0.3 s
    and 10% of the whole or more.
    """
    time = run.finite("batch/step_time_s")
    if len(time) < 12:
        return
    x, y = time.x[2:], time.y[2:]
    quarter = max(2, len(y) // 4)
    first, last = float(np.median(y[:quarter])), float(np.median(y[-quarter:]))
    ranks = np.argsort(np.argsort(y)).astype(float)
    trend = float(np.corrcoef(np.arange(len(y)), ranks)[0, 1]) if y.std() > 0 else 0.0
    steps = np.diff(time.x[1:])
    lost, whole = float(((y - first) * steps).sum()), float((y * steps).sum())
    if last > 1.5 * first and trend > 0.6 and lost > max(0.3, 0.1 * whole):
        yield Finding(
            "throughput_decay",
            "medium" if last > 2 * first else "low",
            f"Steps became slower: {plain(1000 * first)} ms in the first quarter, {plain(1000 * last)} ms in the last; "
            f"{plain(lost)} s were lost.",
            time.key,
            (float(x[0]), float(x[-1])),
            min(0.9, trend),
            "Look for lists that grow (logged tensors with their graph), a filling cache or disk, growing "
            "sequences, or a "
            "throttled machine.",
        )


def slow_rank(run: Evidence) -> Iterator[Finding]:
    """Finds one rank that the others wait for.

    Rule: in 80% of the rows the same rank has the maximum of a time over ranks, and its median is 1.5 times the mean's.
    """
    for key in run.run.keys:
        if not key.startswith("ranks/") or not key.endswith("_time_s/max"):
            continue
        signal = key.removesuffix("/max")
        most, mean, which = (run.finite(f"{signal}/{name}") for name in ("max", "mean", "max_rank"))
        if min(len(most), len(mean), len(which)) < 5:
            continue
        ranks, counts = np.unique(which.y, return_counts=True)
        ratio = float(np.median(most.y)) / max(float(np.median(mean.y)), 1e-12)
        if counts.max() > 0.8 * len(which) and ratio > 1.5 and float(np.median(most.y)) > _LEAST_S:
            yield Finding(
                "slow_rank",
                "medium",
                f"Rank {ranks[counts.argmax()]:.0f} is slow: its `{signal}` is {plain(ratio, 2)} times the mean.",
                key,
                (float(most.x[0]), float(most.x[-1])),
                0.8,
                "Look at that machine: its data, its temperature, its other jobs.",
            )
