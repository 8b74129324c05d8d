"""The torch optimizers in what frameworks wrap around them, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Accelerate's and Fabric's wrappers, ScheduleFreeWrapper, and the usual SAM.
_INNER = ("optimizer", "base", "base_optimizer")


def bare(optimizer: Any) -> Any:
    """Returns the torch optimizer in its wrappers: the one that takes the steps and calls hooks."""
    for name in _INNER:
        inner = getattr(optimizer, name, None)
        if hasattr(inner, "param_groups"):
            return bare(inner)
    return optimizer


def name_of(optimizer: Any, optimizers: Sequence[Any]) -> str:
    """Returns the name of one of several optimizers: its class, numbered where classes repeat; "" for the only one."""
    if len(optimizers) < 2:
        return ""
    kinds = [type(each).__name__ for each in optimizers]
    for index, each in enumerate(optimizers):
        if each is optimizer or getattr(each, "optimizer", None) is optimizer:
            return f"{kinds[index]}_{index}" if kinds.count(kinds[index]) > 1 else kinds[index]
    return type(optimizer).__name__
