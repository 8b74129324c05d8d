"""Separates training time from evaluations, checkpoints and waiting for data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackkit.engine import stopwatch
from trackkit.integrations.lightning.null import NullTracker

if TYPE_CHECKING:
    from trackkit.engine.tracker import Tracker


class Clock:
    """Measures waits for data, and pauses for evaluations and checkpoints.

    Attributes:
        tracker: tracker of the open run.
        fetch_began: time at which the wait for the current batch began, by `stopwatch.now`.
        data_s: seconds spent waiting for batches since the last `batch_ends`.
        in_batch: whether a batch has been fetched and has not ended.
        pause: what training has paused for, and since when; None while it trains.
    """

    def __init__(self) -> None:
        self.tracker: Tracker | NullTracker = NullTracker()
        self.fetch_began = self.data_s = 0.0
        self.in_batch = False
        self.pause: tuple[str, float] | None = None

    def start(self, tracker: Tracker) -> None:
        """Starts with a new run; forgets earlier pauses."""
        self.tracker, self.pause = tracker, None

    def stop(self, what: str) -> None:
        """Starts a pause, or changes the cause of the current one. The next fetch of a batch ends it."""
        if self.pause is None or self.pause[0] != what:
            self.resume()
            self.pause = (what, stopwatch.now())

    def resume(self) -> None:
        """Resumes training, if it is paused, and reports the pause."""
        if self.pause is not None:
            what, since = self.pause
            self.tracker.pause(what, stopwatch.now() - since)
        self.pause = None

    def split_pause(self) -> None:
        """Reports the pause so far, for a row that is made during it."""
        if self.pause is not None:
            what = self.pause[0]
            self.resume()
            self.stop(what)

    def batch_ends(self) -> float:
        """Returns the seconds spent waiting for data since the last call, and resets them."""
        self.in_batch = False
        if self.pause is not None:
            self.resume()
        data_s, self.data_s = self.data_s, 0.0
        return data_s
