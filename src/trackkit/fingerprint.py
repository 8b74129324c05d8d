"""A data set's fingerprint, taken without reading a sample through the data set's own code.

Indexing a data set may draw random numbers (augmentation) and so change the training; only content that lies in memory
as arrays, or a fingerprint that the data set keeps itself, is used.
"""

from __future__ import annotations

import hashlib
from typing import Any

_HEAD_AND_TAIL = 1 << 20


def fingerprint(dataset: Any) -> str | None:
    """Sixteen hex digits over type, length and content; None where the content can't be seen.

    Of each array the shape, the type, and the first and last MiB of bytes count.
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
        data = array.detach().cpu().contiguous().numpy() if hasattr(array, "detach") else array
        flat = data.reshape(-1)
        count = max(1, _HEAD_AND_TAIL // max(1, data.itemsize))
        digest.update(flat[:count].tobytes())
        digest.update(flat[-count:].tobytes())
    return digest.hexdigest()[:16]


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
        return item.device.type == "cpu" and item.layout is torch.strided and item.dtype is not torch.bfloat16
    return isinstance(item, numpy.ndarray) and item.dtype != object
