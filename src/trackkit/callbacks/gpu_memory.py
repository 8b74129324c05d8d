"""Measures GPU memory, as torch's caching allocator counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trackkit.engine.callback import Callback, Values

if TYPE_CHECKING:
    from trackkit.engine.records import Moment
    from trackkit.engine.run_info import RunInfo
    from trackkit.engine.window import Window

_PEAK = "device/gpu_mem_peak_reserved_GB"


class GpuMemory(Callback):
    """Measures the memory of this rank's CUDA device. GB is 1e9 bytes.

    | key | unit | what |
    |---|---|---|
    | `device/gpu_mem_reserved_GB` | 1e9 bytes | the caching allocator's pool |
    | `device/gpu_mem_allocated_GB` | 1e9 bytes | live tensors |
    | `device/gpu_mem_peak_reserved_GB` | 1e9 bytes | the pool's peak since the process began |

    Source: `torch.cuda.memory_stats_as_nested_dict`, which reads counters on the host without waiting.
    """

    def __init__(self) -> None:
        self._device: str | None = None
        self._peak = 0.0

    def start(self, info: RunInfo) -> None:
        self._device = info.start.device if info.start.has_cuda else None

    def row(self, moment: Moment, window: Window) -> Values:
        if self._device is None:
            return {}
        import torch

        stats: dict[str, Any] = torch.cuda.memory_stats_as_nested_dict(self._device)
        if not stats:
            return {}
        reserved, allocated = stats["reserved_bytes"]["all"], stats["allocated_bytes"]["all"]
        self._peak = reserved["peak"] / 1e9
        return {
            "device/gpu_mem_reserved_GB": reserved["current"] / 1e9,
            "device/gpu_mem_allocated_GB": allocated["current"] / 1e9,
            _PEAK: self._peak,
        }

    def final(self) -> Mapping[str, Any]:
        return {} if self._device is None else {"final/peak_gpu_mem_reserved_GB": self._peak}
