"""Trains the toy under torchrun and saves the weights of each rank: `two_ranks.py FRAMEWORK OUT VARIANT`.

Variants: `tracked` (both ranks call `trackkit.log`, and name a source of their own); `bare` (without TrackKit);
`one-disabled` (rank 1's TrackKit is disabled); `one-fails` (rank 1 raises at its fifth step); `one-slow` (rank 1 is
late at every step).
"""

from __future__ import annotations

import functools
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

import trackkit
from tests.support.toy import CONTRACT, Net, Recipe
from trackkit import TrackKit


def main() -> None:
    framework, out, variant = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    if variant == "one-disabled" and rank == 1:
        os.environ["TRACKKIT_MODE"] = "disabled"
    if variant == "tracked":
        Net.forward = _logging(Net.forward)  # type: ignore[method-assign]
    if variant in ("one-fails", "one-slow") and rank == 1:
        Net.forward = _disturbed(Net.forward, variant)  # type: ignore[method-assign]
    more: dict[str, Any] = {}
    if framework == "lightning":
        more = {"strategy": "ddp", "devices": 2}
    kit = [] if variant == "bare" else [TrackKit()]
    net = CONTRACT[framework](Recipe(clip=0.05, every=2), out / "run", kit, **more)
    torch.save(net.state_dict(), out / f"{framework}-{variant}-{rank}.pt")


def _logging(forward: Any) -> Any:
    @functools.wraps(forward)
    def logging(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.training:
            rank = int(os.environ["RANK"])
            trackkit.log({"mine": 3, "loss/rank": rank})
            trackkit.source(f"rank{rank}")
        return forward(self, *args, **kwargs)

    return logging


def _disturbed(forward: Any, variant: str) -> Any:
    calls = 0

    @functools.wraps(forward)
    def disturbed(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += self.training
        if variant == "one-slow":
            time.sleep(0.01)
        elif calls == 5:
            raise RuntimeError("rank 1 gives up")
        return forward(self, *args, **kwargs)

    return disturbed


if __name__ == "__main__":
    main()
