"""Exceptions inside TrackKit, and what a training must look like in spite of them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trackkit
from tests.support.toy import TRAININGS, Recipe

# Row every five of 24 steps an epoch: the first epoch's last batch may be the last step, and makes no row.
RECIPE = Recipe(epochs=2, every=5)
BATCH_STEPS = [1, *range(5, 46, 5), 48]
ROWS = len(BATCH_STEPS) + 2
FRAMEWORKS = sorted(TRAININGS)

# For so small a net more threads only wait for each other, the more so on a busy machine.
torch.set_num_threads(1)


class BoomError(RuntimeError):
    """What the tests raise inside TrackKit."""


def boom(*_: Any, **__: Any) -> Any:
    raise BoomError("out of order")


def counted_boom(calls: list[str], name: str) -> Callable[..., Any]:
    """`boom` that notes its calls: an entry that was never reached proves nothing."""

    def call(*_: Any, **__: Any) -> Any:
        calls.append(name)
        boom()

    return call


def entries(port: type, kind: type) -> list[str]:
    """The public methods of a port that a class has a body of its own for, in the port's order."""
    return [name for name, value in vars(port).items() if callable(value) and name[0] != "_" and name in vars(kind)]


@functools.cache
def bare(framework: str) -> dict[str, torch.Tensor]:
    """The weights after training without TrackKit."""
    return TRAININGS[framework](RECIPE, Path("bare"), []).state_dict()


def train(framework: str, *callbacks: Any) -> None:
    """Trains, and checks the weights bit by bit."""
    weights = TRAININGS[framework](RECIPE, Path("out"), list(callbacks)).state_dict()
    trackkit.finish()
    assert all(torch.equal(weights[name], value) for name, value in bare(framework).items())


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """TrackKit's errors, each of which must carry its traceback."""
    found = [record for record in caplog.records if record.name == "trackkit" and record.levelno >= logging.ERROR]
    assert all(record.exc_info and record.exc_info[0] is BoomError for record in found)
    return [record.getMessage() for record in found]
