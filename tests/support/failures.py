"""Raises exceptions inside TrackKit and checks that the training is the same in spite of them."""

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

# An epoch has 24 steps, so its last one is not due for a row.
RECIPE = Recipe(epochs=2, every=16)
BATCH_STEPS = [1, 16, 32, 48]
ROWS = len(BATCH_STEPS) + 2
FRAMEWORKS = sorted(TRAININGS)

# The net is small: more threads would only wait for each other.
torch.set_num_threads(1)


class BoomError(RuntimeError):
    """The exception that tests raise inside TrackKit."""


def boom(*_: Any, **__: Any) -> Any:
    raise BoomError("out of order")


def counted_boom(calls: list[str], name: str) -> Callable[..., Any]:
    """Returns a `boom` that notes its calls, so that a test can assert that it was called."""

    def call(*_: Any, **__: Any) -> Any:
        calls.append(name)
        boom()

    return call


def entries(port: type, kind: type) -> list[str]:
    """Returns the public methods of a port that a class overrides, in the port's order."""
    return [name for name, value in vars(port).items() if callable(value) and name[0] != "_" and name in vars(kind)]


@functools.cache
def bare(framework: str) -> dict[str, torch.Tensor]:
    """Returns the weights after training without TrackKit; trains once per framework."""
    return TRAININGS[framework](RECIPE, Path("bare"), []).state_dict()


def train(framework: str, *callbacks: Any) -> None:
    """Trains and asserts that the weights are bit-identical to those without TrackKit."""
    weights = TRAININGS[framework](RECIPE, Path("out"), list(callbacks)).state_dict()
    trackkit.finish()
    assert all(torch.equal(weights[name], value) for name, value in bare(framework).items())


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the messages of TrackKit's errors; asserts that each was logged with its traceback."""
    found = [record for record in caplog.records if record.name == "trackkit" and record.levelno >= logging.ERROR]
    assert all(record.exc_info and record.exc_info[0] is BoomError for record in found)
    return [record.getMessage() for record in found]
