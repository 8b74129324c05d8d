"""Plain loops: the private names of torch that TrackKit reaches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import trackkit
from tests.support.loop_trainings import batches, network
from trackkit.integrations.loop import _compat
from trackkit.integrations.memory import MemorySink


def test_installed_torch_has_every_private_name() -> None:
    assert _compat.missing() == []


def test_removed_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.autograd.variable.Variable._execution_engine")
    assert _compat.missing() == ["torch.autograd.variable:Variable._execution_engine"]


def test_training_goes_on_without_the_engine_s_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(call: object) -> None:
        raise AttributeError("no _execution_engine")

    monkeypatch.setattr(_compat, "at_end_of_backward", gone)
    net, sink = network(), MemorySink()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with trackkit.loop(net, optimizer, every=1, sinks=[sink]) as track:
        for x, _ in track.batches(batches(3)):
            loss: Any = net(x).mean()
            loss.backward()
            optimizer.step()
            track.step(loss)
    assert [step for step, _ in sink.history("batch/lr")] == [1, 2, 3]
    assert sink.history("batch/grad_norm") == []
