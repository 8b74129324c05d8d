"""Reads NVML, for the device that a rank computes on. No other file uses NVML."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

_JOULES_PER_KWH = 3.6e6


def device_handle(device: str) -> Any | None:
    """Returns NVML's handle of a torch CUDA device such as `cuda:0`; None if NVML has none.

    Matches the UUID, not the index: CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's.
    """
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        return pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
    except (pynvml.NVMLError, AttributeError):
        return None


def energy_counter(device: str) -> Callable[[], float] | None:
    """Returns a function that gives the kWh used by `device` since this call; None if NVML has no such counter.

    The function gives NaN once NVML fails.

    Source: `nvmlDeviceGetTotalEnergyConsumption` (mJ since the driver was loaded; Volta and newer).
    """
    handle = device_handle(device)
    if handle is None:
        return None
    import pynvml

    try:
        before = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None

    def used() -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / 1e3 / _JOULES_PER_KWH
        except pynvml.NVMLError:
            return math.nan

    return used
