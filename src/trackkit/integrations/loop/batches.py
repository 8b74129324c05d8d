"""Counts the batches of a loop: epochs, samples, tokens, and the time spent waiting for data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from trackkit.engine.stopwatch import now
from trackkit.errors import TrackKitError
from trackkit.integrations.batches import loader_sizes, token_count


class Counts:
    """What was counted since the last `collect`.

    Attributes:
        passes: whole passes over the data.
        fetched: whether a batch has come since the owner set it to False.
        ended: when the last pass ended.
        resumed: the part of the coming pass that an earlier process has processed.
    """

    def __init__(self) -> None:
        self.passes = 0
        self.fetched = False
        self.ended = now()
        self.resumed = 0.0
        self._running = False
        self._done = self._length = 0
        self._data_s = 0.0
        self._samples: int | None = 0
        self._tokens = 0

    @property
    def epoch(self) -> float | None:
        """Passes over the data so far, fractional; None within a pass over data without a length."""
        if self._done and not self._length:
            return None
        return self.passes + (min(1.0, self._done / self._length) if self._done else 0.0)

    def collect(self) -> tuple[int | None, int, float]:
        """Returns samples (None: can't be counted), tokens, and seconds waiting for data."""
        counted = self._samples, self._tokens, self._data_s
        self._samples, self._tokens, self._data_s = 0, 0, 0.0
        return counted

    def over(self, loader: Any, done: int, ends: Callable[[], None], failed: Callable[[str, Exception], None]) -> Any:
        """Yields the batches of one pass.

        Args:
            loader: gives the batches.
            done: batches of this pass that an earlier process has processed.
            ends: called with the last batch of the pass in hand, if the loader has a length.
            failed: called with an exception of the counting.

        Raises:
            TrackKitError: while another pass is under way.
        """
        if self._running:
            raise TrackKitError(
                "track.batches is in use already: it counts one loader at a time. Wrap only the loader of the training "
                "data, and read others directly."
            )
        if self._done:
            # The earlier pass was left early.
            self.passes += 1
        # A loader that skips batches may have the length of the rest only.
        length = round(done / self.resumed) if done and self.resumed else _length(loader)
        self.resumed = 0.0
        self._running, self._done, self._length = True, done, length
        sizes = loader_sizes(loader)
        try:
            batches = iter(loader)
            while True:
                began = now()
                try:
                    batch = next(batches)
                except StopIteration:
                    break
                self._data_s += now() - began
                self.fetched = True
                done += 1
                self._done, last = done, done == length
                try:
                    samples = sizes.count(batch, last)
                    self._samples = None if samples is None or self._samples is None else self._samples + samples
                    # A list or a tuple has no `input_ids`, and most loaders give one.
                    if type(batch) is not list and type(batch) is not tuple:
                        self._tokens += token_count(batch)
                    if last:
                        ends()
                except Exception as error:  # noqa: BLE001 -- the user's loop must not fail
                    failed("track.batches", error)
                yield batch
            self.passes, self._done = self.passes + 1, 0
        finally:
            self._running = False
            self.ended = now()


class Batches:
    """Iterates over a loader and counts its batches. Each iteration is one epoch.

    Args:
        iterate: returns a counted pass.
        loader: gives the batches.
    """

    def __init__(self, iterate: Callable[[], Iterator[Any]], loader: Any) -> None:
        self._iterate, self._loader = iterate, loader

    def __iter__(self) -> Iterator[Any]:
        return self._iterate()

    def __len__(self) -> int:
        return len(self._loader)


def _length(loader: Any) -> int:
    """Returns the batches of a pass; 0 if the loader has no length."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return 0
