"""What has happened since the last batch row: the material that callbacks make the next row of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from trackkit.records import Moment


class Window:
    """Accumulates moments between two batch rows. Nothing in it reads a device value.

    Attributes:
        losses: one scalar tensor per optimizer step: the mean over its micro-batches, undivided by accumulation.
        steps: optimizer steps.
        samples, tokens: over all ranks.
        data_s: seconds spent waiting for data.
        skipped: found-inf flags of the gradient scaler, one per step that had one.
    """

    __slots__ = ("_micro", "_paused_s", "_since", "data_s", "losses", "samples", "skipped", "steps", "tokens")

    def __init__(self) -> None:
        self.losses: list[torch.Tensor] = []
        self.skipped: list[torch.Tensor | bool] = []
        self._micro: list[torch.Tensor] = []
        self.steps = self.samples = self.tokens = 0
        self.data_s = self._paused_s = 0.0
        self._since = time.perf_counter()

    def add(self, moment: Moment) -> None:
        """A micro-batch has been processed."""
        self.samples += moment.samples
        self.tokens += moment.tokens
        self.data_s += moment.data_s
        if (loss := moment.loss) is not None:
            self._micro.append(loss if moment.loss_scale == 1.0 else loss * moment.loss_scale)
        if moment.skipped is not None:
            self.skipped.append(moment.skipped)

    def step(self, steps: int = 1) -> None:
        """The optimizer has stepped on what was added since the last step."""
        self.steps += steps
        if len(self._micro) == 1:
            self.losses.append(self._micro[0])
        elif self._micro:
            import torch

            self.losses.append(torch.stack(self._micro).mean())
        self._micro.clear()

    def pause(self, seconds: float) -> None:
        """Wall time that was not training: evaluation, checkpointing."""
        self._paused_s += seconds

    @property
    def elapsed_s(self) -> float:
        """Seconds of training since the window opened, pauses left out."""
        return max(time.perf_counter() - self._since - self._paused_s, 1e-9)
