"""The clock that times trainings."""

from __future__ import annotations

# A name of its own, so that a user's test that replaces `time.perf_counter` does not affect TrackKit.
from time import perf_counter as now

__all__ = ["now"]
