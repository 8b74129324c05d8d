"""Runs callbacks alone: a tracker and a sink in memory, without a framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.support.run_info import run_info
from trackkit.engine.ranks import Exchange
from trackkit.engine.records import Gradients, Moment
from trackkit.engine.tracker import Tracker
from trackkit.integrations.memory import MemorySink
from trackkit.schema.keys import describe


class Bench:
    """A tracker with the callbacks under test, and a sink that keeps its rows."""

    def __init__(self, *callbacks: Any, **info: Any) -> None:
        self.sink = MemorySink()
        self.tracker = Tracker(callbacks, [self.sink], Exchange())
        self.tracker.start(run_info(Path.cwd(), **info))
        self._step = 0

    def step(self, *losses: float | torch.Tensor, row: bool = True, **batch: Any) -> dict[str, float]:
        """One optimizer step on the micro-batches `losses`; gives the row's values."""
        tensors = [torch.as_tensor(loss) for loss in losses]
        for loss in tensors[:-1]:
            self.tracker.batch(loss)
        self._step += 1
        last = tensors[-1] if tensors else None
        moment = {name: batch.pop(name) for name in ("epoch", "total_steps") if name in batch}
        if "skipped" in batch:
            self.tracker.skipped(batch.pop("skipped"))
        self.tracker.batch(last, steps=1, **batch)
        if row:
            self.tracker.row(Moment(self._step, **moment))
        self.tracker.seal()
        assert self.tracker.faults.count == 0
        return dict(self.sink.rows[-1].values) if row and self.sink.rows else {}

    def columns(self) -> dict[str, Any]:
        self.tracker.end("finished")
        return self.sink.columns


def announced(callback: Any, optimizer: torch.optim.Optimizer, **more: Any) -> dict[str, float]:
    """Returns the values that `callback` writes for one step of `optimizer`."""
    bench = Bench(callback)
    bench.tracker.gradients(Gradients(optimizer, **more))
    values = bench.step(0.0)
    assert all(describe(key) for key in values)
    return {key: value for key, value in values.items() if key != "batch/step"}
