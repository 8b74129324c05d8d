"""How much data a batch holds, without a device read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def batch_size(batch: Any) -> int:
    """Samples in a batch: the first dimension of its first tensor; 0 where there is none."""
    tensor = _first_tensor(batch)
    return int(tensor.shape[0]) if tensor is not None else 0


def batch_tokens(batch: Any) -> int:
    """Tokens in a batch of `input_ids`, padding included (to leave it out, the device would have to be read)."""
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    return int(ids.numel()) if ids is not None and hasattr(ids, "numel") else 0


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
