"""Device scalars on their way to the host, without a wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Device = Any


class Transfer:
    """One copy per device of all the scalars of a row.

    On the CPU the values are read at once, in one call. On CUDA they are stacked on the device, copied without
    blocking to pinned memory, and read when the copy's event is done.

    Args:
        scalars: name to a tensor of one element, or to a list of them. The same list under two names is copied once.
    """

    def __init__(self, scalars: Mapping[str, torch.Tensor | Sequence[torch.Tensor]]) -> None:
        self._lists: dict[str, tuple[Device, int, int]] = {}
        by_device: dict[Device, list[torch.Tensor]] = {}
        copied: dict[int, tuple[Device, int, int]] = {}
        for name, value in scalars.items():
            several = isinstance(value, list)
            place = copied.get(id(value)) if several else None
            if place is None:
                items: Sequence[torch.Tensor] = value if several else (value,)  # type: ignore[assignment]
                device = items[0].device
                onto = by_device.setdefault(device, [])
                place = (device, len(onto), len(onto) + len(items))
                onto.extend(items)
                if several:
                    copied[id(value)] = place
            self._lists[name] = place
        self._single = {name for name, value in scalars.items() if not isinstance(value, list)}
        self._copies = {device: _Copy(items) for device, items in by_device.items()}

    @property
    def ready(self) -> bool:
        """Whether the values can be read without waiting for the device."""
        return all(copy.ready for copy in self._copies.values())

    def values(self) -> Iterator[tuple[str, float | list[float]]]:
        """(name, value or list of values); waits for the device where it is not done."""
        numbers = {device: copy.numbers() for device, copy in self._copies.items()}
        for name, (device, begin, end) in self._lists.items():
            yield name, numbers[device][begin] if name in self._single else numbers[device][begin:end]


class _Copy:
    """Scalars of one device, stacked: in their own type where they share one, else in the widest that fits all."""

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
