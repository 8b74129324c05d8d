"""Collects what happened since the last batch row, from which callbacks make the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackkit.engine import stopwatch

if TYPE_CHECKING:
    import torch


class Window:
    """Accumulates what happens between two batch rows, without reading a device value.

    Args:
        samples_before, tokens_before: seen before it, since training began, over all ranks.

    Attributes:
        losses: one scalar tensor per optimizer step: the mean over its micro-batches, undivided by accumulation.
        steps: optimizer steps.
        samples, tokens: over all ranks.
        uncounted: whether it has samples that can not be counted.
        data_s: seconds spent waiting for data.
        untimed: whether it has batches for whose data the time is unknown.
        skipped: steps that the gradient scaler is known to have skipped.
        skip_flags: found-inf flags of the gradient scaler for other steps, device scalars.
    """

    __slots__ = (
        "_micro", "_paused_s", "_since", "_totals", "data_s", "losses", "samples", "samples_before", "skip_flags",
        "skipped", "steps", "tokens", "tokens_before", "uncounted", "untimed",
    )  # fmt: skip

    def __init__(self, samples_before: int = 0, tokens_before: int = 0) -> None:
        self.samples_before, self.tokens_before = samples_before, tokens_before
        self.losses: list[torch.Tensor] = []
        self.skip_flags: list[torch.Tensor] = []
        self._micro: list[torch.Tensor] = []
        self._totals: dict[str, tuple[Any, int]] = {}
        self.steps = self.samples = self.tokens = self.skipped = 0
        self.data_s = self._paused_s = 0.0
        self.uncounted = self.untimed = False
        self._since = stopwatch.now()

    def add(
        self, loss: torch.Tensor | None, samples: int | None, tokens: int, data_s: float | None, steps: int
    ) -> None:
        """Adds a batch, and the `steps` optimizer steps taken on it and the batches before it."""
        if samples is None:
            self.uncounted = True
        else:
            self.samples += samples
        self.tokens += tokens
        if data_s is None:
            self.untimed = True
        else:
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
            micro, self._micro = self._micro, []
            self.losses.append(_mean(micro) if len(micro) > 1 else micro[0])

    def average(self, key: str, value: float | torch.Tensor) -> None:
        """Adds a value to the mean of `key`; a device scalar, which nothing changes, without reading it."""
        total, count = self._totals.get(key, (0.0, 0))
        self._totals[key] = total + value, count + 1

    def means(self, prefix: str) -> dict[str, Any]:
        """Returns the means of the keys that begin with `prefix`, each a number or a device scalar."""
        return {key: total / count for key, (total, count) in self._totals.items() if key.startswith(prefix)}

    def pause(self, seconds: float) -> None:
        """Leaves out wall time that was not training: evaluation, checkpointing."""
        self._paused_s += seconds

    def skip(self, flag: torch.Tensor | bool) -> None:
        """Adds a step that the gradient scaler skipped, or its found-inf flag if that is not known yet."""
        if isinstance(flag, bool):
            self.skipped += flag
        else:
            self.skip_flags.append(flag)

    @property
    def seen(self) -> tuple[int, int]:
        """Samples and tokens since training began, over all ranks."""
        return self.samples_before + self.samples, self.tokens_before + self.tokens

    @property
    def elapsed_s(self) -> float:
        """Seconds of training since the window opened, without pauses."""
        return max(stopwatch.now() - self._since - self._paused_s, 1e-9)


def _mean(losses: list[torch.Tensor]) -> torch.Tensor:
    import torch

    stacked = torch.stack(losses)
    return stacked.mean(dtype=torch.promote_types(stacked.dtype, torch.float32))
