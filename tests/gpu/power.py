"""What a training took, measured apart from TrackKit: wall time by a callback, energy from NVML's power."""

from __future__ import annotations

import threading
import time
from typing import Any

from trackkit.callbacks.nvml import device_handle

EVERY_S = 0.05
_JOULES_PER_KWH = 3.6e6


class Power:
    """Samples the device's power in a thread and adds it up; use as a context manager.

    `kwh` is None where NVML gives no power.
    """

    def __init__(self, device: str) -> None:
        self.kwh: float | None = None
        self._handle = None if device == "cpu" else device_handle(device)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Power:
        if self._handle is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._handle is not None:
            self._thread.join()

    def _sample(self) -> None:
        import pynvml

        last, joules = time.perf_counter(), 0.0
        while not self._stop.wait(EVERY_S):
            try:
                watts = pynvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3
            except pynvml.NVMLError:
                return
            now = time.perf_counter()
            joules, last = joules + watts * (now - last), now
            self.kwh = joules / _JOULES_PER_KWH


class Wall:
    """The seconds from a training's first step to its end."""

    def __init__(self) -> None:
        self._began = self.seconds = 0.0

    def begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self._began

    def callback(self, framework: str) -> Any:
        if framework == "Lightning":
            from lightning.pytorch.callbacks import LambdaCallback

            return LambdaCallback(on_train_start=self.begin, on_train_end=self.end)
        from transformers import TrainerCallback

        return type("WallClock", (TrainerCallback,), {"on_train_begin": self.begin, "on_train_end": self.end})()
