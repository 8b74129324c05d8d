"""Time that is not training."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trackkit.tracker import Tracker


class Clock:
    """Waits for data, and pauses for evaluations and checkpoints.

    Attributes:
        tracker: of the open run.
        fetch_began: when the batch that is fetched was first waited for.
        data_s: seconds that batches were waited for, since it was last set to 0.
        pause: what the training has paused for, and since when.
    """

    def __init__(self) -> None:
        self.tracker: Tracker | None = None
        self.fetch_began = self.data_s = 0.0
        self.pause: tuple[str, float] | None = None

    def stop(self, what: str) -> None:
        """Training pauses."""
        self.pause = (what, time.perf_counter())

    def resume(self) -> None:
        """Training goes on, if it has paused."""
        if self.pause is not None and self.tracker is not None:
            what, since = self.pause
            self.tracker.pause(what, time.perf_counter() - since)
        self.pause = None
