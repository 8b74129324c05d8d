"""Replaces `time.perf_counter`, so that tests of measured times do not depend on the machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest


class FakeClock:
    """A clock that stands still until a test moves it.

    Attributes:
        now: seconds that TrackKit's stopwatch returns.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("trackkit.engine.stopwatch.now", lambda: self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def hook(self, seconds: float) -> Callable[..., None]:
        """Returns a hook that takes `seconds`, whatever its arguments."""

        def take_time(*_: object) -> None:
            self.advance(seconds)

        return take_time
