"""The norm of a plain loop is that of the step's gradients before clipping, and tracking changes no weight."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import trackkit
from tests.support.loop_trainings import CASES, STEPS, Untracked, batches, network, true_norm
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


def test_norm_after_a_backward_that_failed_is_its_own_step_s() -> None:
    net, sink = network(), MemorySink()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def fail(_: torch.Tensor) -> None:
        raise RuntimeError("out of memory")

    with trackkit.loop(net, optimizer, every=1, sinks=[sink]) as track:
        (x, y), (other, _) = batches(2)
        net(other).sum().backward()
        optimizer.zero_grad()
        hook = net[0].weight.register_hook(fail)  # type: ignore[index]
        with pytest.raises(RuntimeError):
            net(other).sum().backward()
        hook.remove()
        optimizer.zero_grad()
        loss: Any = nn.functional.mse_loss(net(x), y)
        loss.backward()
        truth = true_norm(net.parameters())
        optimizer.step()
        track.step(loss)
    assert sink.history("batch/grad_norm") == [(1, pytest.approx(truth, rel=1e-5))]
