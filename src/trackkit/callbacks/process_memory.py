"""Measures the memory of the training process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackkit.engine import stopwatch
from trackkit.engine.callback import Callback, Values

if TYPE_CHECKING:
    from trackkit.engine.records import Moment
    from trackkit.engine.run_info import RunInfo
    from trackkit.engine.window import Window

# A reading takes some 10 us.
EVERY_S = 1.0


class ProcessMemory(Callback):
    """Measures the memory of this process, without its data-loading workers.

    | key | unit | what |
    |---|---|---|
    | `device/rss_GB` | 1e9 bytes | resident set size, read at most once a second |

    Source: `psutil.Process.memory_info`.
    """

    def __init__(self) -> None:
        self._read_at = -EVERY_S
        self._rss = 0.0

    def start(self, info: RunInfo) -> None:
        import psutil

        # Made in each process: a pickled one would be the parent's.
        self._process = psutil.Process()

    def row(self, moment: Moment, window: Window) -> Values:
        now = stopwatch.now()
        if now - self._read_at >= EVERY_S or not self._rss:
            self._read_at, self._rss = now, self._process.memory_info().rss / 1e9
        return {"device/rss_GB": self._rss}
