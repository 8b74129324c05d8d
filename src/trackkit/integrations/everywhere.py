"""The TrackKit that `trackkit run --everywhere` adds to each trainer: it yields to one that the program gives."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from trackkit.integrations.loading import kit_class


@functools.cache
def everywhere_class() -> type:
    """Returns a class of TrackKit that records a trainer only if it has no other."""

    class EverywhereTrackKit(kit_class()):  # type: ignore[misc]
        yields: ClassVar[bool] = True

    # Pickle finds the class by `__getattr__` below: a trainer that spawns processes is pickled.
    EverywhereTrackKit.__qualname__ = "EverywhereTrackKit"
    return EverywhereTrackKit


def __getattr__(name: str) -> type:
    if name == "EverywhereTrackKit":
        return everywhere_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def is_recorded(callbacks: list[Any]) -> bool:
    """Returns whether a TrackKit is among a trainer's callbacks."""
    return any(isinstance(each, kit_class()) for each in callbacks)
