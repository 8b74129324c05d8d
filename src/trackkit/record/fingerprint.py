"""A data set's fingerprint, taken without reading a sample through the data set's own code.

Indexing a data set may draw random numbers (augmentation) and so change the training; only content that lies in memory
as arrays, or a fingerprint that the data set keeps itself, is used.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

_HEAD_AND_TAIL = 1 << 20


def fingerprint(dataset: Any) -> str | None:
    """Sixteen hex digits over type, length and content; None where the content can't be seen.

    Of each array the shape, the type, and about a MiB of rows at either end count.
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
    """The first and the last rows, about a MiB of each: whatever the array's strides, little is copied."""
    if not array.ndim:
        array = array.reshape(1)
    size = array.element_size() if hasattr(array, "element_size") else array.itemsize
    rows = max(1, _HEAD_AND_TAIL // max(1, size * math.prod(array.shape[1:])))
    return _bytes(array[:rows]), _bytes(array[-rows:])


def _bytes(array: Any) -> bytes:
    if not hasattr(array, "detach"):
        return bytes(array.tobytes())
    import torch

    # As plain bytes: NumPy knows fewer types than torch, and no lazily conjugated ones.
    flat = array.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes())


def _arrays(dataset: Any) -> list[Any]:
    """Arrays and CPU tensors that the data set holds as plain attributes, in the order of their names."""
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
