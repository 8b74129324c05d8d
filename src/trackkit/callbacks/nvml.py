"""The only door to NVML: the device that a rank computes on, matched by UUID, never by index."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

_JOULES_PER_KWH = 3.6e6


def device_handle(device: str) -> Any | None:
    """NVML's handle of a torch CUDA device such as `cuda:0`; None where NVML can't say.

    CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's, so that their indices differ.
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
    """A function that gives the kWh that `device` has used since now, NaN once NVML can't say; None where it never can.

    Source: `nvmlDeviceGetTotalEnergyConsumption` (mJ since the driver was loaded; Volta and newer).
    """
    handle = device_handle(device)
    if handle is None:
        return None
    import pynvml

    try:
        begin = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None

    def used() -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - begin) / 1e3 / _JOULES_PER_KWH
        except pynvml.NVMLError:
            return math.nan

    return used
