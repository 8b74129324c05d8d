"""Curves: axes, resumed trainings, buckets that lose no extreme."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackkit.engine.records import Row
from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.curves import Curve, at_steps, buckets, curve, main_keys


def recorded() -> RecordedRun:
    """Ten steps of eight samples, with an evaluation after the fifth and the tenth; steps 7 to 10 were resumed."""
    rows = []
    for attempt, steps in ((1, range(1, 9)), (2, range(7, 11))):
        for step in steps:
            values = {"batch/step": step, "batch/samples": 8 * step, "batch/loss": 100 * attempt + step}
            rows.append(Row(len(rows), "batch", step, 1000.0 + len(rows), values, {}, attempt))
            if step in (5, 10):
                rows.append(
                    Row(
                        len(rows),
                        "epoch",
                        step,
                        1000.0 + len(rows),
                        {"epoch/step": step, "epoch/val/acc": step / 10},
                        {},
                        attempt,
                    )
                )
    return RecordedRun({}, {}, {"run_id": "a", "status": "finished"}, load=lambda: (rows, ()))


def test_curve_follows_the_later_attempt_on_every_axis() -> None:
    run = recorded()
    loss = curve(run, "loss")
    assert (loss.key, list(loss.x)) == ("batch/loss", list(range(1, 11)))
    assert list(loss.y) == [101, 102, 103, 104, 105, 106, 207, 208, 209, 210]
    assert list(curve(run, "val/acc", "samples").x) == [40, 80]
    assert list(curve(run, "val/acc", "time").x) == [5, 13]
    assert len(curve(run, "val/acc", "tokens")) == 0
    assert list(at_steps(loss, [0, 5.5, 99])) == pytest.approx([np.nan, 105, 210], nan_ok=True)
    assert main_keys([run]) == ["batch/loss", "epoch/val/acc"]


@given(st.lists(st.floats(width=32), max_size=300), st.integers(1, 50))
def test_buckets_keep_every_extreme_and_every_value_that_is_not_finite(values: list[float], most: int) -> None:
    y = np.array(values, dtype=float)
    found = buckets(Curve("k", np.arange(len(y), dtype=float), y), most)
    assert len(found.x) <= most
    finite = y[np.isfinite(y)]
    assert found.nonfinite.sum() == len(y) - len(finite)
    if len(finite):
        assert (np.nanmin(found.least), np.nanmax(found.most)) == (finite.min(), finite.max())
        sizes = np.minimum(found.size, len(y) - np.arange(len(found.x)) * found.size) - found.nonfinite
        assert np.nansum(found.mean * sizes) == pytest.approx(finite.sum(), rel=1e-9, abs=1e-3 * np.abs(finite).max())
    assert list(found.x) == sorted(found.x)
    assert not len(y) or found.x[-1] == len(y) - 1
