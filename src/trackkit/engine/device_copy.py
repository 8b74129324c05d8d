"""Copies device scalars to the host without waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Device = Any


class DeviceCopy:
    """Copies all device scalars of a row, with one copy per device.

    On the CPU the values are read at once, in one call. On CUDA they are stacked on the device, copied to pinned memory
    without blocking, and read when the copy's event is done.

    Args:
        row: key to a number, to a tensor of one element, or to a list of them. The same list under two keys is copied
            once; empty lists are left out.
    """

    def __init__(self, row: Mapping[str, float | int | torch.Tensor | Sequence[torch.Tensor]]) -> None:
        self._row: dict[str, Any] = {}
        by_device: dict[Device, list[torch.Tensor]] = {}
        copied: dict[int, _Span] = {}
        for key, value in row.items():
            if isinstance(value, (int, float)):
                self._row[key] = value
            elif not isinstance(value, list):
                self._row[key] = _Span([value], by_device, single=True)
            elif value:
                self._row[key] = copied[id(value)] = copied.get(id(value)) or _Span(value, by_device)
        self._copies = {device: _Copy(scalars) for device, scalars in by_device.items()}

    @property
    def ready(self) -> bool:
        """Whether the values can be read without waiting for the device."""
        return all(copy.ready for copy in self._copies.values())

    def values(self) -> dict[str, Any]:
        """Returns the row's values as Python numbers; waits for the device if it is not ready.

        A list is replaced by its mean, unless its key begins with `_`.
        """
        numbers = {device: copy.numbers() for device, copy in self._copies.items()}
        return {
            key: value.of(numbers, mean=key[0] != "_") if isinstance(value, _Span) else value
            for key, value in self._row.items()
        }


class _Span:
    """The part of a device's stack that belongs to one key."""

    __slots__ = ("_begin", "_device", "_end", "_single")

    def __init__(self, scalars: Sequence[Any], by_device: dict[Device, list[Any]], single: bool = False) -> None:
        self._device = scalars[0].device
        stack = by_device.setdefault(self._device, [])
        self._begin, self._end, self._single = len(stack), len(stack) + len(scalars), single
        stack.extend(scalars)

    def of(self, numbers: Mapping[Device, list[float]], mean: bool) -> float | list[float]:
        found = numbers[self._device][self._begin : self._end]
        if self._single:
            return found[0]
        return sum(found) / len(found) if mean else found


class _Copy:
    """Stacks scalars of one device: in their own type if they share one, else in the widest."""

    def __init__(self, scalars: Sequence[torch.Tensor]) -> None:
        import torch

        self._event: torch.cuda.Event | None = None
        first = scalars[0]
        if len({(scalar.dtype, scalar.ndim) for scalar in scalars}) > 1 or first.ndim:
            wide = torch.float32 if first.device.type == "mps" else torch.float64
            scalars = [scalar.detach().reshape(()).to(wide) for scalar in scalars]
        stacked = torch.stack(list(scalars)).detach()
        if first.device.type == "cuda":
            self._host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
            self._host.copy_(stacked, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(first.device))
        else:
            self._host = stacked

    @property
    def ready(self) -> bool:
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def numbers(self) -> list[float]:
        if self._event is not None:
            self._event.synchronize()
        numbers: list[float] = self._host.tolist()
        return numbers
