"""Fingerprints a data set without running the data set's own code.

Indexing a data set may draw random numbers (augmentation) and so change the training. The fingerprint uses the arrays
that the data set holds in memory, or a fingerprint that the data set has itself.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

_HEAD_AND_TAIL = 1 << 20


def fingerprint(dataset: Any) -> str | None:
    """Returns sixteen hex digits over the data set's type and content; None if it holds no arrays.

    Each array counts with its shape, its type, and about a MiB of rows at either end.
    """
    own = getattr(dataset, "_fingerprint", None)
    if isinstance(own, str):
        return own
    arrays = _arrays(dataset)
    if not arrays:
        return None
    digest = hashlib.sha256(type(dataset).__qualname__.encode())
    for array in arrays:
        digest.update(f"{tuple(array.shape)}{array.dtype}".encode())
        for part in _ends(array):
            digest.update(part)
    return digest.hexdigest()[:16]


def _ends(array: Any) -> tuple[bytes, bytes]:
    """Returns the first and the last rows, about a MiB of each: little is copied, whatever the array's strides."""
    if not array.ndim:
        array = array.reshape(1)
    size = array.element_size() if hasattr(array, "element_size") else array.itemsize
    rows = max(1, _HEAD_AND_TAIL // max(1, size * math.prod(array.shape[1:])))
    return _bytes(array[:rows]), _bytes(array[-rows:])


def _bytes(array: Any) -> bytes:
    if not hasattr(array, "detach"):
        return bytes(array.tobytes())
    import torch

    # NumPy lacks some of torch's types, and lazily conjugated tensors.
    flat = array.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes())


def _arrays(dataset: Any) -> list[Any]:
    """Returns the arrays and CPU tensors in the data set's attributes, ordered by name."""
    held = vars(dataset) if hasattr(dataset, "__dict__") else {}
    found: list[Any] = []
    for name in sorted(held):
        value = held[name]
        for item in value if isinstance(value, (list, tuple)) and len(value) <= 16 else (value,):
            if _is_array(item):
                found.append(item)
    return found


def _is_array(item: Any) -> bool:
    import numpy
    import torch

    if isinstance(item, torch.Tensor):
        return item.device.type == "cpu" and item.layout is torch.strided and not item.is_quantized
    return isinstance(item, numpy.ndarray) and item.dtype != object
