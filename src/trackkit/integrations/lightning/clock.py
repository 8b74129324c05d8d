"""Time that is not training."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trackkit.engine.tracker import Tracker


class Clock:
    """Waits for data, and pauses for evaluations and checkpoints.

    Attributes:
        tracker: of the open run.
        fetch_began: when the batch that is fetched was first waited for.
        data_s: seconds that batches were waited for, since it was last set to 0.
        in_batch: whether a batch was fetched, and has not ended.
        pause: what the training has paused for, and since when.
    """

    def __init__(self) -> None:
        self.tracker: Tracker | None = None
        self.fetch_began = self.data_s = 0.0
        self.in_batch = False
        self.pause: tuple[str, float] | None = None

    def begin(self, tracker: Tracker) -> None:
        """A run begins: what was before is no part of it."""
        self.tracker, self.pause = tracker, None

    def stop(self, what: str) -> None:
        """Training pauses, unless it has paused already. It goes on where the next batch is fetched."""
        if self.pause is None:
            self.pause = (what, time.perf_counter())

    def resume(self) -> None:
        """Training goes on, if it has paused."""
        if self.pause is not None and self.tracker is not None:
            what, since = self.pause
            self.tracker.pause(what, time.perf_counter() - since)
        self.pause = None

    def settle(self) -> None:
        """What has passed of a pause is counted, for a row that is made in the midst of it."""
        if self.pause is not None:
            what = self.pause[0]
            self.resume()
            self.stop(what)
