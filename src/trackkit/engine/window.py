"""What has happened since the last batch row: the material that callbacks make the next row of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Window:
    """Accumulates what passes between two batch rows. Nothing in it reads a device value.

    Args:
        samples_before, tokens_before: seen when it opens, since the training began, over all ranks.

    Attributes:
        losses: one scalar tensor per optimizer step: the mean over its micro-batches, undivided by accumulation.
        steps: optimizer steps.
        samples, tokens: over all ranks.
        uncounted: whether there were samples that nobody has counted.
        data_s: seconds spent waiting for data.
        skipped: steps that the gradient scaler is known to have skipped.
        skip_flags: its found-inf flags, device scalars, of the other steps.
    """

    __slots__ = (
        "_before",
        "_micro", "_paused_s", "_since", "data_s", "losses", "samples", "skip_flags", "skipped", "steps", "tokens",
        "uncounted",
    )  # fmt: skip

    def __init__(self, samples_before: int = 0, tokens_before: int = 0) -> None:
        self._before = samples_before, tokens_before
        self.losses: list[torch.Tensor] = []
        self.skip_flags: list[torch.Tensor] = []
        self._micro: list[torch.Tensor] = []
        self.steps = self.samples = self.tokens = self.skipped = 0
        self.data_s = self._paused_s = 0.0
        self.uncounted = False
        self._since = time.perf_counter()

    def add(self, loss: torch.Tensor | None, samples: int | None, tokens: int, data_s: float, steps: int) -> None:
        """A batch has been processed, and the optimizer has taken `steps` steps on it and what came before."""
        if samples is None:
            self.uncounted = True
        else:
            self.samples += samples
        self.tokens += tokens
        self.data_s += data_s
        if steps:
            self.steps += steps
            if not self._micro:
                if loss is not None:
                    self.losses.append(loss)
                return
        if loss is not None:
            self._micro.append(loss)
        if steps:
            import torch

            self.losses.append(torch.stack(self._micro).mean() if len(self._micro) > 1 else self._micro[0])
            self._micro.clear()

    def pause(self, seconds: float) -> None:
        """Wall time that was not training: evaluation, checkpointing."""
        self._paused_s += seconds

    @property
    def seen(self) -> tuple[int, int]:
        """Samples and tokens since the training began, over all ranks."""
        return self._before[0] + self.samples, self._before[1] + self.tokens

    @property
    def elapsed_s(self) -> float:
        """Seconds of training since the window opened, pauses left out."""
        return max(time.perf_counter() - self._since - self._paused_s, 1e-9)
