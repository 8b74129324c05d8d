"""Counts the samples and tokens of a fit's batches, from one data loader or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trackkit.integrations.batches import BatchSizes, loader_sizes, token_count

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class Samples:
    """Counts samples and tokens. A batch of several loaders has the structure of the loaders' collection.

    Args:
        trainer: the trainer; its loaders may be exchanged during a fit.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._loaders: Any = None
        self._counters: Any = None

    def count(self, batch: Any, batch_idx: int) -> tuple[int | None, int]:
        """Returns samples and tokens of a batch. Samples that can't be counted are None, and absent tokens 0.

        Args:
            batch: the batch.
            batch_idx: its index in the epoch.
        """
        # Lightning exchanges loaders between epochs only, and a fit that is resumed may begin within one.
        if batch_idx == 0 or self._counters is None:
            loaders = self._trainer.train_dataloader
            if loaders is not self._loaders:
                self._loaders, self._counters = loaders, _counters(loaders)
        counter = self._counters
        if type(counter) is _Counter:
            return counter.count(batch, batch_idx)
        counts = _counted(counter, batch, batch_idx)
        samples = [each for each, _ in counts]
        known = None if None in samples else sum(each or 0 for each in samples)
        return known, sum(tokens for _, tokens in counts)


class _Counter:
    """Counts the batches of one loader."""

    def __init__(self, sizes: BatchSizes, batches: int) -> None:
        self._sizes, self._batches = sizes, batches

    def count(self, batch: Any, batch_idx: int) -> tuple[int | None, int]:
        ends = self._batches > 0 and (batch_idx + 1) % self._batches == 0
        return self._sizes.count(batch, ends), token_count(batch)


def _counters(loaders: Any) -> Any:
    """Returns a counter for each loader, in the collection (lists, tuples, mappings) that the loaders are in."""
    if isinstance(loaders, Mapping):
        return {name: _counters(each) for name, each in loaders.items()}
    if isinstance(loaders, (list, tuple)):
        return [_counters(each) for each in loaders]
    try:
        batches = len(loaders)
    except TypeError:
        batches = 0
    return _Counter(loader_sizes(loaders), batches)


def _counted(counters: Any, batch: Any, batch_idx: int) -> list[tuple[int | None, int]]:
    """Returns samples and tokens by loader; samples are None if the batch has another structure than the loaders."""
    if isinstance(counters, _Counter):
        return [counters.count(batch, batch_idx)]
    if batch is None:
        return []
    if isinstance(counters, Mapping) and isinstance(batch, Mapping) and batch.keys() == counters.keys():
        pairs = [(counter, batch[key]) for key, counter in counters.items()]
    elif isinstance(counters, list) and isinstance(batch, (list, tuple)) and len(batch) == len(counters):
        pairs = list(zip(counters, batch, strict=True))
    else:
        return [(None, 0)]
    return [each for counter, part in pairs for each in _counted(counter, part, batch_idx)]
