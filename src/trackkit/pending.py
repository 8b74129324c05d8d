"""Device scalars on their way to the host, without a wait."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Transfer:
    """One copy per device of all the scalars of a row.

    On the CPU the values are read at once, in one call. On CUDA they are stacked on the device, copied without
    blocking to pinned memory, and read when the copy's event is done.

    Args:
        scalars: name to a tensor of one element; detached here.
    """

    def __init__(self, scalars: Mapping[str, torch.Tensor]) -> None:
        self._copies = [_Copy(names, [scalars[name] for name in names]) for names in _by_device(scalars)]

    @property
    def ready(self) -> bool:
        """Whether the values can be read without waiting for the device."""
        return all(copy.ready for copy in self._copies)

    def values(self) -> dict[str, float]:
        """Name to value; waits for the device where it is not done."""
        found: dict[str, float] = {}
        for copy in self._copies:
            found.update(copy.values())
        return found


class _Copy:
    def __init__(self, names: list[str], scalars: list[torch.Tensor]) -> None:
        import torch

        self._names = names
        self._event: torch.cuda.Event | None = None
        device = scalars[0].device
        wide = torch.float32 if device.type == "mps" else torch.float64
        with torch.no_grad():
            stacked = torch.stack([scalar.detach().reshape(()).to(wide) for scalar in scalars])
        if device.type == "cuda":
            self._host = torch.empty(len(names), dtype=wide, pin_memory=True)
            self._host.copy_(stacked, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))
        else:
            self._host = stacked

    @property
    def ready(self) -> bool:
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def values(self) -> dict[str, float]:
        if self._event is not None:
            self._event.synchronize()
        return dict(zip(self._names, self._host.tolist(), strict=True))


def _by_device(scalars: Mapping[str, Any]) -> list[list[str]]:
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, scalar in scalars.items():
        groups[scalar.device].append(name)
    return list(groups.values())
