"""What a loader tells of its batches: Hugging Face's callbacks see none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_NO_LENGTH = (TypeError, AttributeError, NotImplementedError)


@dataclass(frozen=True)
class Sizes:
    """What a loader tells of its batches, the trainer's own or the user's, prepared by Accelerate or not.

    Attributes:
        batch: samples of a full batch, over all ranks; None where the batches are of different sizes.
        batches: of a pass, on each rank; None where the loader has no length.
        epoch: samples of a pass, over all ranks; None where the loader has no length.
    """

    batch: int | None = None
    batches: int | None = None
    epoch: int | None = None

    @classmethod
    def of(cls, loader: Any, ranks: int) -> Sizes:
        """Those of a training's loader."""
        shard: Any = getattr(loader, "batch_sampler", None)
        inner: Any = getattr(shard, "batch_sampler", shard)
        # Batch samplers of the user's own may give batches of any size, whatever their `batch_size` says.
        if type(inner).__module__.partition(".")[0] not in ("torch", "torchdata"):
            return cls()
        split = getattr(shard, "split_batches", False) or getattr(loader, "split_batches", False)
        batch = int(inner.batch_size) * (1 if split else ranks)
        try:
            batches, drawn = len(loader), _drawn(loader.dataset, inner.sampler)
        except _NO_LENGTH:
            return cls(batch)
        shared = shard is not inner or hasattr(loader, "split_batches") or hasattr(loader.dataset, "num_processes")
        return cls(batch, batches, min(batches * batch, drawn if shared else drawn * ranks))

    def updates(self, accumulation: int) -> int | None:
        """Optimizer steps of a pass; None where the loader has no length."""
        return None if self.batches is None else max(math.ceil(self.batches / accumulation), 1)


def _drawn(dataset: Any, sampler: Any) -> int:
    """Samples that a pass draws, which need not be those that there are; an iterable data set has no sampler."""
    try:
        return len(sampler)
    except _NO_LENGTH:
        return len(dataset)
