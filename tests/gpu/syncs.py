"""Watches TrackKit's own code in a training for anything that makes the host wait for the device.

`torch.cuda.set_sync_debug_mode("error")` is on while TrackKit's code runs in the training's thread, whichever hook or
wrapped method it was entered by, and off while the framework's own code runs, also where TrackKit has wrapped it.
torch's debug mode does not cover explicit waits (`synchronize` of a device, an event, a stream): they are counted.

On the CPU (a dry run) the calls that would wait are counted instead, those of `device_copy.py` left out: it reads a
CPU row's values at once.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from types import FrameType, TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

import trackkit

_OURS = os.path.dirname(os.path.abspath(trackkit.__file__)) + os.sep
_GUARDS = (os.path.join("integrations", "guard.py"), os.path.join("engine", "faults.py"))
_READS = {"item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "__array__"}
_AT_ONCE_ON_CPU = ("device_copy.py", "fingerprint.py")

FRAMEWORK_S_OWN = {
    "_on_after_fetch",
    "_on_before_fetch",
    "clip_gradients",
    "evaluate",
    "log",
    "log_metrics",
    "predict",
    "resume_end",
    "run",
    "save_checkpoint",
    "update_train_step_metrics",
}
"""Methods of the frameworks that TrackKit may wrap and call on: what they wait for is not TrackKit's doing."""

ENDS = {"on_fit_end", "on_train_end", "on_exception", "teardown"}
"""The hooks that may wait: they write the last rows."""


class SyncWatch(TorchFunctionMode):
    """Use as a context manager around a training.

    Attributes:
        calls: how often TrackKit's code was entered, by the name of what was entered.
        waits: explicit waits and, on the CPU, reads, by the name of what was entered.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.cuda = torch.device(device).type == "cuda"
        self.calls: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self._ours = False
        self._entry = ""
        self._stack: list[bool] = []
        self._kept: list[tuple[Any, str, Any]] = []

    @property
    def in_training(self) -> dict[str, int]:
        """The waits apart from those of the end."""
        return {name: count for name, count in self.waits.items() if name not in ENDS}

    def __enter__(self) -> SyncWatch:
        if self.cuda:
            for owner in (torch.cuda, torch.cuda.Event, torch.cuda.Stream):
                self._count(owner, "synchronize")
        super().__enter__()  # type: ignore[no-untyped-call]
        sys.setprofile(self._profile)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(None)
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._switch(False)
        for owner, name, method in self._kept:
            setattr(owner, name, method)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._ours and not self.cuda and getattr(func, "__name__", "") in _READS and not _reads_at_once():
            self.waits[self._entry] += 1
        return func(*args, **(kwargs or {}))

    def _count(self, owner: Any, name: str) -> None:
        method = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            if self._ours:
                self.waits[self._entry] += 1
            return method(*args, **kwargs)

        self._kept.append((owner, name, method))
        setattr(owner, name, counted)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            self._stack.append(self._ours)
            self._switch(self._is_ours(frame))
        elif event == "return" and self._stack:
            self._switch(self._stack.pop())

    def _is_ours(self, frame: FrameType) -> bool:
        name = frame.f_code.co_filename
        if not name.startswith(_OURS):
            return self._ours and frame.f_code.co_name not in FRAMEWORK_S_OWN
        if not self._entry and not name.endswith(_GUARDS):
            self._entry = frame.f_code.co_name
            self.calls[self._entry] += 1
        return True

    def _switch(self, ours: bool) -> None:
        if ours == self._ours:
            return
        self._ours = ours
        if not ours:
            self._entry = ""
        if self.cuda:
            torch.cuda.set_sync_debug_mode("error" if ours else "default")


def _reads_at_once() -> bool:
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            return frame.f_code.co_filename.endswith(_AT_ONCE_ON_CPU)
        frame = frame.f_back
    return False
