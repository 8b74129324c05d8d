"""How much data a batch holds, without a device read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def batch_counts(batch: Any) -> tuple[int, int]:
    """(samples, tokens) of a batch; 0 for what it does not tell.

    Samples: the first dimension of its first tensor. Tokens: those of `input_ids`, padding included (to leave it out,
    the device would have to be read).
    """
    kind = type(batch)
    plain = kind is list or kind is tuple
    first: Any = batch[0] if plain and batch else None
    # The most common batch, at every step: spared the search.
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
    """The first tensor with a dimension, depth first. A batch object such as a graph's is asked for its own fields."""
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
