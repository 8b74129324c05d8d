"""Counts what the training reads from the loaders that Accelerate has prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from trackkit.engine import stopwatch
from trackkit.integrations.batches import token_count
from trackkit.integrations.huggingface.progress import Sizes
from trackkit.integrations.patches import Patch
from trackkit.record.run_config import length


class Source:
    """Follows one loader: how far it has been read, and how long that took.

    Accelerate reads a batch ahead, to know which one is the last. A pass in which no batch was trained on is a pause of
    the training.

    Args:
        loader: prepared by Accelerate.
        ranks: of the training.
        guard: calls a function (name, function, arguments) whose errors the training must not see.
        began: called when a pass begins.
        paused: called with the seconds of a pass that was not trained on, and the number of the data set's samples.

    Attributes:
        loader, sizes: the loader, and its sizes.
        passes: whole passes that have been read.
        trained: whether a batch of this pass was trained on.
    """

    def __init__(
        self,
        loader: Any,
        ranks: int,
        guard: Callable[..., Any],
        began: Callable[[], None],
        paused: Callable[[float, int | None], None],
    ) -> None:
        self.loader, self._ranks, self._guard, self._began_reading = loader, ranks, guard, began
        self.sizes = guard("loader's sizes", Sizes.of, loader, ranks) or Sizes()
        self.passes, self.trained = 0, False
        self._length = self.sizes.batches or length(loader)
        self._paused = paused
        self._read = 0
        self._ahead = self._reading = False
        self._began = self._waited = 0.0
        # Samples of the passes before this one, those up to the last `collect`, and the tokens since then.
        self._before = self._collected = self._tokens = self._next_tokens = 0
        self._followed: list[Any] = []
        self.follow(loader)

    def reads(self, loader: Any) -> bool:
        """Returns whether `loader` gives these data."""
        return any(each is loader for each in self._followed)

    def follow(self, loader: Any, skipped: int = 0) -> None:
        """Follows a loader of the same data, whose passes leave out the first `skipped` batches."""
        self._followed.append(loader)
        Patch(loader, "begin", self._after(self._begins, skipped))
        Patch(loader, "end", self._after(self.leave))
        Patch(loader.base_dataloader, "__iter__", self._timed)

    def resumes(self, passes: int, samples: int) -> None:
        """Continues the counts of an earlier process."""
        self.passes, self._before, self._collected = passes, samples, samples

    def leave(self) -> None:
        """Ends the pass, also one that is left early; does nothing between passes."""
        if not self._reading:
            return
        self._before = self.samples or 0
        self._reading = False
        self.passes += 1
        if not self.trained:
            self._paused(stopwatch.now() - self._began, length(self.loader.dataset))

    @property
    def epoch(self) -> float | None:
        """Passes over the data, fractional; None within a pass over data without a length."""
        if not self._reading:
            return float(self.passes)
        return self.passes + self._done / self._length if self._length else None

    @property
    def position(self) -> tuple[int, int]:
        """Whole passes, and batches of this pass."""
        return self.passes, self._done

    @property
    def ends(self) -> bool:
        """Whether the batch in hand is the last of its pass."""
        return self._reading and not self._ahead

    @property
    def samples(self) -> int | None:
        """Samples over all ranks; None if they can't be counted."""
        if self.sizes.batch is None:
            return None
        done = self._done * self.sizes.batch
        return self._before + (done if self.sizes.epoch is None else min(done, self.sizes.epoch))

    def collect(self) -> tuple[int | None, int, float]:
        """Returns samples (None: can't be counted) and tokens over all ranks since the last call, and seconds waited.

        Tokens are this rank's, times the ranks.
        """
        tokens, self._tokens = self._tokens * self._ranks, 0
        waited, self._waited = self._waited, 0.0
        if (samples := self.samples) is None:
            return None, tokens, waited
        more, self._collected = samples - self._collected, samples
        return more, tokens, waited

    @property
    def _done(self) -> int:
        return self._read - self._ahead if self._reading else 0

    def _begins(self, skipped: int) -> None:
        self._began_reading()
        self.leave()
        self._reading, self.trained, self._ahead = True, False, False
        self._read = skipped
        if self.sizes.batch is not None and skipped:
            self._before -= skipped * self.sizes.batch
        self._began = stopwatch.now()

    def _timed(self, original: Callable[[], Iterator[Any]]) -> Callable[[], Iterator[Any]]:
        def batches() -> Iterator[Any]:
            began = stopwatch.now()
            iterator = original()
            while True:
                try:
                    batch = next(iterator)
                except StopIteration:
                    break
                finally:
                    self._waited += stopwatch.now() - began
                self._guard("_fetched", self._fetched, batch)
                yield batch
                began = stopwatch.now()
            self._ahead = False
            self._tokens += self._next_tokens
            self._next_tokens = 0

        return batches

    def _fetched(self, batch: Any) -> None:
        self._read += 1
        self._ahead = True
        self._tokens += self._next_tokens
        self._next_tokens = token_count(batch)

    def _after(self, call: Callable[..., None], *given: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            def both(*args: Any, **kwargs: Any) -> Any:
                result = original(*args, **kwargs)
                self._guard(call.__name__, call, *given)
                return result

            return both

        return wrapper
