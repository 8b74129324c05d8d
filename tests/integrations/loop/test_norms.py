"""The norm of a plain loop is that of the step's gradients before clipping, and tracking changes no weight."""

from __future__ import annotations

import math

import pytest
import torch

import trackkit
from tests.support.loop_trainings import CASES, STEPS, Untracked
from trackkit.integrations.memory import MemorySink

EVERY = 3
ROWS = [1, 3, 6, 8]


@pytest.mark.parametrize("case", CASES)
def test_norm_is_taken_before_clipping_and_weights_do_not_change(case: str) -> None:
    sink = MemorySink()
    truth = CASES[case](lambda *args, **given: trackkit.loop(*args, every=EVERY, sinks=[sink], **given))
    bare = CASES[case](Untracked)
    assert all(torch.equal(bare.weights[name], truth.weights[name]) for name in bare.weights)
    assert [step for step, _ in sink.history("batch/lr")] == ROWS
    assert sink.columns["final/tracker_errors"] == 0
    assert sink.columns["final/steps"] == STEPS
    if case == "compiled_autograd":
        assert sink.history("batch/grad_norm") == []
        return
    expected = [truth.norms[step - 1] for step in ROWS]
    assert [step for step, _ in sink.history("batch/grad_norm")] == ROWS
    assert [norm for _, norm in sink.history("batch/grad_norm")] == pytest.approx(expected, rel=1e-5)
    if truth.others:
        assert [norm for _, norm in sink.history("batch/grad_norm/AdamW")] == pytest.approx(expected, rel=1e-5)
        others = [truth.others[step - 1] for step in ROWS]
        assert [norm for _, norm in sink.history("batch/grad_norm/SGD")] == pytest.approx(others, rel=1e-5)
    skipped = sum(value for _, value in sink.history("batch/skipped_steps"))
    assert skipped == case.startswith("scaler")


def test_norm_of_a_skipped_step_is_recorded() -> None:
    sink = MemorySink()
    CASES["scaler_told"](lambda *args, **given: trackkit.loop(*args, every=5, sinks=[sink], **given))
    assert not math.isfinite(dict(sink.history("batch/grad_norm"))[5])
    assert dict(sink.history("batch/nonfinite"))[5] == 1
