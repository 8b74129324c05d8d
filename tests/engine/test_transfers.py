"""Counts how often values are read back to the host in real trainings, with and without TrackKit.

A read is a call that waits for a device: `item`, `tolist`, `numpy`, `cpu`, a copy `to` a named device, and Python's own
conversions. A change of type (`to(torch.float64)`) stays on the device and is no read. The tensors are on the CPU here;
the calls are the same on any device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode

from tests.support.toy import TRAININGS, Recipe
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

READS = {"item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "__array__", "__complex__"}
RECIPE = Recipe(epochs=2, every=5)
# Before the first step the data's fingerprint reads tensors that are already in host memory.
STEPS = range(1, 49)


class Reads(TorchFunctionMode):
    """Counts reads by the number of optimizer steps before them."""

    def __init__(self) -> None:
        super().__init__()
        self.at: Counter[int] = Counter()
        self.steps = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        moved = name == "to" and any(isinstance(each, (str, torch.device)) for each in (*args[1:], *kwargs.values()))
        if name in READS or moved:
            self.at[self.steps] += 1
        return func(*args, **kwargs)

    def stepped(self, *_: Any) -> None:
        self.steps += 1


@contextmanager
def counted() -> Iterator[Reads]:
    """Counts the reads inside the block."""
    reads = Reads()
    handle = register_optimizer_step_post_hook(reads.stepped)
    try:
        with reads:
            yield reads
    finally:
        handle.remove()


def reads_of(framework: str, *callbacks: Any) -> Reads:
    with counted() as reads:
        TRAININGS[framework](RECIPE, Path("out"), list(callbacks))
    assert reads.steps == 48
    return reads


@pytest.mark.parametrize(
    "read",
    [
        lambda tensor: tensor.item(),
        lambda tensor: tensor.tolist(),
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.cpu(),
        lambda tensor: tensor.to("cpu"),
        lambda tensor: tensor.to(device="cpu"),
        float,
        int,
        bool,
    ],
)
def test_every_kind_of_read_is_counted(read: Any) -> None:
    with counted() as reads:
        tensor = torch.ones(())
        tensor.to(torch.float64).detach().reshape(1).sum()
        assert sum(reads.at.values()) == 0
        read(tensor)
    assert sum(reads.at.values()) == 1


@pytest.mark.parametrize("options", [{}, {"grad_norm": {"per_layer": True}}])
def test_lightning_reads_once_per_row_and_never_between_rows(options: dict[str, Any]) -> None:
    bare = reads_of("lightning")
    tracked = reads_of("lightning", TrackKit(sinks=[sink := MemorySink()], callbacks=options))
    rows = Counter(row.step for row in sink.rows)
    assert {"batch/loss", "batch/grad_norm", "batch/acc", "batch/lr"} <= set(sink.rows[0].values)
    assert set(rows) == {1, *range(5, 46, 5), 24, 48}
    assert {step: tracked.at[step] - bare.at[step] for step in STEPS} == {step: rows[step] for step in STEPS}


def test_hugging_face_reads_no_more_with_trackkit() -> None:
    """Hugging Face reads its numbers when it logs; TrackKit reads none, and makes it log no more."""
    bare, tracked = reads_of("huggingface"), reads_of("huggingface", TrackKit(sinks=[sink := MemorySink()]))
    assert {step: tracked.at[step] for step in STEPS} == {step: bare.at[step] for step in STEPS}
    assert len(sink.rows) == 13
