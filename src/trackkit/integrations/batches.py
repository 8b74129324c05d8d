"""Counts the samples and tokens of a batch, without reading the device.

A count is right or None. The shapes of a batch do not say which dimension counts samples, so they are compared with the
size that the data loader gives its batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class BatchSizes:
    """Counts the samples of one data loader's batches.

    Args:
        size: samples of a whole batch; None if the loader does not say.
        rest: samples of a pass's last batch; None if unknown.

    Attributes:
        size: the argument.
    """

    def __init__(self, size: int | None = None, rest: int | None = None) -> None:
        self.size, self._rest = size, rest
        # Whether the first dimension of every tensor has been the number of samples; None before the first batch.
        self._by_first: bool | None = None

    def count(self, batch: Any, ends: bool = False) -> int | None:
        """Returns the samples of a batch; None if its shapes contradict the loader or one another.

        Args:
            batch: tensors in lists, tuples and mappings. None is a loader's batch after its end, and has no samples.
            ends: whether the batch is the last of a pass through the data.
        """
        if batch is None:
            return 0
        size = self.size
        if self._by_first is not None and size is not None and _leading(batch) == size:
            return size
        firsts: set[int] = set()
        lengths: set[int] = set()
        _gather(batch, firsts, lengths)
        if size is None:
            return firsts.pop() if len(firsts) == 1 else None
        known = firsts | lengths
        if self._by_first is None:
            self._by_first = firsts == {size}
        if ends and self._rest is not None and (self._rest in known or not known):
            return self._rest
        if size in known or not known:
            return size
        # A batch may be smaller: workers end at different times, and a collate function may drop samples.
        return firsts.pop() if self._by_first and len(firsts) == 1 and min(firsts) < size else None


def loader_sizes(loader: Any) -> BatchSizes:
    """Returns the counter for a loader's batches. Knows the size of those that torch's own batch sampler makes."""
    from torch.utils.data import BatchSampler, DataLoader

    sampler = loader.batch_sampler if isinstance(loader, DataLoader) else None
    if type(sampler) is not BatchSampler:
        return BatchSizes()
    try:
        rest = len(sampler.sampler) % sampler.batch_size  # type: ignore[arg-type]
    except TypeError:
        return BatchSizes(sampler.batch_size)
    return BatchSizes(sampler.batch_size, None if sampler.drop_last or not rest else rest)


def token_count(batch: Any) -> int:
    """Returns the elements of `input_ids`, padding included (leaving it out would read the device); 0 without them."""
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    return int(ids.numel()) if ids is not None and hasattr(ids, "numel") else 0


def _leading(batch: Any) -> int | None:
    """Returns the first dimension of the first tensor of a flat batch; None for any other."""
    kind = type(batch)
    if kind is list or kind is tuple:
        batch = batch[0] if batch else None
    elif kind is dict:
        batch = next(iter(batch.values()), None)
    shape = getattr(batch, "shape", None)
    return shape[0] if shape else None


def _gather(batch: Any, firsts: set[int], lengths: set[int]) -> None:
    """Adds the first dimensions of all tensors to `firsts`, and the lengths of lists and tuples to `lengths`."""
    if hasattr(batch, "shape") and hasattr(batch, "ndim"):
        if len(batch.shape):
            firsts.add(int(batch.shape[0]))
        return
    if isinstance(batch, Mapping):
        batch = batch.values()
    elif isinstance(batch, (list, tuple)):
        lengths.add(len(batch))
    else:
        return
    for item in batch:
        _gather(item, firsts, lengths)
