"""Measures progress, time and throughput."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.engine.callback import Callback, Values

if TYPE_CHECKING:
    from trackkit.engine.records import Moment
    from trackkit.engine.run_info import RunInfo
    from trackkit.engine.window import Window

_PAUSES = {"evaluation": "final/eval_h", "checkpoint": "final/checkpoint_h"}


class Throughput(Callback):
    """Measures progress and speed, in wall time without evaluation and checkpointing.

    | key | unit | what |
    |---|---|---|
    | `batch/samples`, `batch/tokens` | count, all ranks | seen so far |
    | `batch/step_time_s` | s | mean per optimizer step since the last row |
    | `batch/data_time_s` | s | the part of it spent waiting for data |
    | `batch/samples_per_s`, `batch/tokens_per_s` | 1/s, all ranks | since the last row |
    | `batch/profiling/<part>_s` | s | mean time of each call since the last row, where the framework times its parts |
    | `batch/mfu` | 0 to 1 | flops_per_sample x samples/s over peak_flops x ranks |
    | `final/eval_h`, `final/checkpoint_h` | h | wall time of training that went to evaluations and checkpoints |

    Model FLOPs utilization is defined in Chowdhery et al., PaLM (2022), appendix B.

    Args:
        flops_per_sample: floating-point operations of forward and backward for one sample.
        peak_flops: of one device, per second.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("flops_per_sample", "peak_flops")

    def __init__(self, flops_per_sample: float | None = None, peak_flops: float | None = None) -> None:
        for name, value in (("flops_per_sample", flops_per_sample), ("peak_flops", peak_flops)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0):
                raise ValueError(f"'{name}' must be a positive number; got {value!r}")
        self.flops_per_sample = flops_per_sample
        self.peak_flops = peak_flops
        self._samples = self._tokens = 0
        self._uncounted = False
        self._ranks = 1
        self._hours = dict.fromkeys(_PAUSES.values(), 0.0)
        self._rows = self._measured = False

    def start(self, info: RunInfo) -> None:
        self._samples, self._tokens, self._ranks = info.start.samples, info.start.tokens, info.world_size
        summary = info.earlier.summary if info.earlier is not None and info.start.is_fit else {}
        self._hours = {column: float(summary.get(column) or 0.0) for column in self._hours}

    def unused(self) -> Mapping[str, str]:
        given = {"flops_per_sample": self.flops_per_sample, "peak_flops": self.peak_flops}
        names = [name for name, value in given.items() if value]
        why = f"`batch/mfu` needs {' and '.join(given)}" if len(names) == 1 else ""
        if len(names) == 2 and self._rows and not self._measured:
            why = "the samples of a batch can't be counted"
        return {f"callbacks: throughput: {name}": why for name in names if why}

    def row(self, moment: Moment, window: Window) -> Values:
        elapsed = window.elapsed_s
        self._uncounted = self._uncounted or window.uncounted
        self._samples, self._tokens = window.seen
        values: dict[str, float | int] = window.means("batch/profiling/")
        self._rows = True
        if window.steps:
            values["batch/step_time_s"] = elapsed / window.steps
            if not window.untimed:
                values["batch/data_time_s"] = window.data_s / window.steps
        if self._samples and not self._uncounted:
            values["batch/samples"] = self._samples
            values["batch/samples_per_s"] = window.samples / elapsed
            if self.flops_per_sample and self.peak_flops:
                achieved = self.flops_per_sample * window.samples / elapsed
                self._measured = True
                values["batch/mfu"] = achieved / (self.peak_flops * self._ranks)
        if self._tokens:
            values["batch/tokens"] = self._tokens
            values["batch/tokens_per_s"] = window.tokens / elapsed
        return values

    def paused(self, what: str, seconds: float) -> None:
        if what in _PAUSES:
            self._hours[_PAUSES[what]] += seconds / 3600

    def final(self) -> Mapping[str, Any]:
        if not self._rows:
            return {}
        seen = {"final/samples": 0 if self._uncounted else self._samples, "final/tokens": self._tokens}
        return {**{key: value for key, value in seen.items() if value}, **self._hours}
