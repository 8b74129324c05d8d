"""How many samples a training has seen."""

from __future__ import annotations

import math
from typing import Any


class Sizes:
    """Samples seen, from the trainer's own counters: its callbacks see no batch."""

    def __init__(self, per_update: int = 0, per_epoch: int | None = None, samples: int | None = None) -> None:
        self._per_update = per_update
        self._updates_per_epoch = per_epoch
        self._samples_per_epoch = samples

    @classmethod
    def of(cls, args: Any, state: Any, loader: Any) -> Sizes:
        """Those of a trainer: a loader without a length leaves what an epoch has unknown."""
        per_update = state.train_batch_size or args.train_batch_size
        per_update = int(per_update) * args.gradient_accumulation_steps * args.world_size
        try:
            batches = len(loader)
            dataset = len(loader.dataset)
        except (TypeError, AttributeError):
            return cls(per_update)
        updates = math.ceil(batches / args.gradient_accumulation_steps)
        per_batch = per_update // args.gradient_accumulation_steps
        return cls(per_update, updates, min(batches * per_batch, dataset if not args.dataloader_drop_last else 1 << 62))

    def samples(self, state: Any) -> int:
        """Over all ranks, up to `state.global_step`; the last batch of an epoch may be a short one."""
        if self._updates_per_epoch is None or self._samples_per_epoch is None:
            return int(state.global_step) * self._per_update
        epochs, updates = divmod(int(state.global_step), self._updates_per_epoch)
        return epochs * self._samples_per_epoch + min(updates * self._per_update, self._samples_per_epoch)
