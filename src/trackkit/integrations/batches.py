"""Counts the samples and tokens of a batch, without reading the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def batch_counts(batch: Any) -> tuple[int, int]:
    """Returns (samples, tokens) of a batch; 0 for a count that is unknown.

    Samples are the first dimension of the first tensor. Tokens are the elements of `input_ids`, padding included:
    leaving it out would read the device.
    """
    kind = type(batch)
    plain = kind is list or kind is tuple
    first: Any = batch[0] if plain and batch else None
    # The most common batch, needed at every step, skips the search.
    shape = first.shape if hasattr(first, "numel") else None
    if not shape:
        tensor = _first_tensor(batch)
        shape = tensor.shape if tensor is not None else (0,)
    samples = int(shape[0])
    if plain or not isinstance(batch, Mapping):
        return samples, 0
    ids = batch.get("input_ids")
    return samples, int(ids.numel()) if ids is not None and hasattr(ids, "numel") else 0


def _first_tensor(batch: Any) -> Any:
    """Returns the first tensor with a dimension, depth first; None if there are none in lists, tuples and mappings."""
    if hasattr(batch, "shape") and hasattr(batch, "numel"):
        return batch if len(batch.shape) else None
    if isinstance(batch, Mapping):
        batch = batch.values()
    elif not isinstance(batch, (list, tuple)):
        return None
    for item in batch:
        tensor = _first_tensor(item)
        if tensor is not None:
            return tensor
    return None
