"""The checks themselves: each trains for real, and gives the lines of the table."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import trackkit
from tests.gpu.syncs import SyncWatch
from tests.gpu.table import Line, largest_difference
from tests.gpu.trainings import TRAININGS, Recipe, fitted, plain, possible
from trackkit import TrackKit
from trackkit.callbacks.gpu_memory import GpuMemory
from trackkit.callbacks.grad_norm import GradNorm
from trackkit.engine.device_copy import DeviceCopy
from trackkit.integrations.memory import MemorySink

KINDS = [("32", False), ("32", True), ("bf16", False), ("fp16", False), ("fp16", True)]
NORM_TOLERANCE = {"32": 1e-4, "bf16": 2e-2, "fp16": 1e-2}


def train(framework: str, recipe: Recipe, tracked: bool = True) -> tuple[MemorySink, torch.nn.Module]:
    sink = MemorySink()
    with tempfile.TemporaryDirectory() as out:
        callbacks: list[Any] = [TrackKit(sinks=[sink], dir=out)] if tracked else []
        net = TRAININGS[framework](recipe, Path(out), callbacks)
        trackkit.finish()
        return sink, net


# -- memory ------------------------------------------------------------------------------------------------------


@contextmanager
def torch_figures(device: str) -> Iterator[list[tuple[dict[str, Any], dict[str, float]]]]:
    """Gives (TrackKit's memory values, torch's own read at the same moment) of every row."""
    pairs: list[tuple[dict[str, Any], dict[str, float]]] = []
    original = GpuMemory.row

    def row(self: GpuMemory, *arguments: Any) -> Any:
        values = original(self, *arguments)
        own = {
            "device/gpu_mem_reserved_GB": torch.cuda.memory_reserved(device) / 1e9,
            "device/gpu_mem_allocated_GB": torch.cuda.memory_allocated(device) / 1e9,
            "device/gpu_mem_peak_reserved_GB": torch.cuda.max_memory_reserved(device) / 1e9,
        }
        pairs.append((dict(values), own))
        return values

    with mock.patch.object(GpuMemory, "row", row):
        yield pairs


def memory(device: str) -> Iterator[Line]:
    """`device/gpu_mem_*` of each row are torch's own figures at that moment, and lie within the device's memory."""
    if device == "cpu":
        yield Line.skipped("GPU memory", "", "needs a GPU")
        return
    for framework in TRAININGS:
        with torch_figures(device) as pairs:
            sink, _ = train(framework, Recipe(device, width=1024))
        differing = [(ours, own) for ours, own in pairs if any(ours.get(key) != value for key, value in own.items())]
        found = f"{len(pairs) - len(differing)} of {len(pairs)} rows equal"
        yield Line.of("GPU memory: rows", framework, found, "all, in 3 keys", bool(pairs) and not differing)
        peak, own_peak = (
            sink.columns.get("final/peak_gpu_mem_reserved_GB"),
            torch.cuda.max_memory_reserved(device) / 1e9,
        )
        yield Line.of("GPU memory: peak, GB", framework, peak, own_peak, peak == own_peak)
        free, total = torch.cuda.mem_get_info(device)
        used = (total - free) / 1e9
        yield Line.of("GPU memory: the driver's, GB", framework, f"{own_peak:.3f}", f"<= {used:.3f}", own_peak <= used)


# -- synchronization ---------------------------------------------------------------------------------------------


def syncs(device: str) -> Iterator[Line]:
    """No hook makes the host wait, also with a gradient scaler and steps that overflow."""
    yield planted(device)
    for framework in TRAININGS:
        for precision, overflow in (("32", ()), ("bf16", ()), ("fp16", (5, 6, 11))):
            recipe = Recipe(device, precision, overflow=overflow)  # type: ignore[arg-type]
            case = f"{framework}, {recipe.title}"
            if why := possible(framework, recipe):
                yield Line.skipped("waits in hooks", case, why)
                continue
            with SyncWatch(device) as watch:
                sink, _ = train(framework, recipe)
            errors = sink.columns.get("final/tracker_errors")
            good = not watch.in_training and errors == 0 and sum(watch.calls.values()) > recipe.steps
            found = f"{dict(watch.in_training) or 0} in {sum(watch.calls.values())} calls, {errors} errors"
            yield Line.of("waits in hooks", case, found, "0, 0 errors", good)
            if overflow:
                skipped = sum(row.values.get("batch/skipped_steps", 0) for row in sink.rows)
                expected = sum(not math.isfinite(norm) for norm in plain(recipe).norms)
                yield Line.of("skipped steps", case, f"{skipped:g}", expected, skipped == expected)


def planted(device: str) -> Line:
    """A wait that is put into one of TrackKit's callbacks must be found, or the other lines mean nothing."""
    original = GradNorm.gradients

    def gradients(self: GradNorm, given: Any) -> None:
        original(self, given)
        given.optimizer.param_groups[0]["params"][0].grad.sum().item()

    logger = logging.getLogger("trackkit")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with mock.patch.object(GradNorm, "gradients", gradients), SyncWatch(device) as watch:
        sink, _ = train("Lightning", Recipe(device))
    logger.setLevel(level)
    found = sum(watch.waits.values()) + sink.columns.get("final/tracker_errors", 0)
    return Line.of("waits in hooks", "a wait planted on purpose", "found" if found else "missed", "found", found > 0)


# -- copies ------------------------------------------------------------------------------------------------------


def copies(device: str) -> Iterator[Line]:
    """A row's scalars are copied to pinned memory without a wait while the device is busy, and arrive right."""
    if device == "cpu":
        yield Line.skipped("copies", "", "needs a GPU")
        return
    scalars = [torch.tensor(float(number), device=device) for number in range(8)]
    DeviceCopy({"_warm": scalars})
    torch.cuda.synchronize(device)
    torch.cuda._sleep(2_000_000_000)  # type: ignore[no-untyped-call]  # noqa: SLF001 -- about a second of work
    began = time.perf_counter()
    copy = DeviceCopy({"_several": scalars, "one": scalars[3]})
    took_ms = (time.perf_counter() - began) * 1e3
    waiting = not copy.ready
    pinned = all(each._host.is_pinned() for each in copy._copies.values())  # noqa: SLF001
    values = copy.values()
    yield Line.of("copies: pinned", "busy device", pinned, True, pinned)
    yield Line.of("copies: host time, ms", "busy device", f"{took_ms:.2f}", "< 20, not ready", took_ms < 20 and waiting)
    right = values == {"_several": [float(number) for number in range(8)], "one": 3.0}
    yield Line.of("copies: values", "busy device", "right" if right else values, "right", right)


# -- numbers -----------------------------------------------------------------------------------------------------


def norms(device: str) -> Iterator[Line]:
    """`batch/grad_norm` is a plain loop's: unscaled, before clipping, also of an optimizer that unscales by itself."""
    for framework in TRAININGS:
        for precision, fused in KINDS:
            recipe = fitted(framework, Recipe(device, precision, fused, overflow=(9,) if precision == "fp16" else ()))  # type: ignore[arg-type]
            case = f"{framework}, {recipe.title}"
            if why := possible(framework, recipe):
                yield Line.skipped("gradient norm", case, why)
                continue
            truth = plain(recipe).norms
            history = train(framework, recipe)[0].history("batch/grad_norm")
            expected = [truth[step - 1] for step, _ in history]
            worst = largest_difference([value for _, value in history], expected)
            bound = NORM_TOLERANCE[precision]
            enough = len(history) >= recipe.steps // recipe.every
            found = f"{worst:.1e} in {len(history)} rows"
            yield Line.of("gradient norm", case, found, f"<= {bound:.0e}", enough and worst <= bound)


def weights(device: str) -> Iterator[Line]:
    """The trained weights are the same, bit by bit, without TrackKit."""
    for framework in TRAININGS:
        for precision, fused in KINDS:
            recipe = fitted(framework, Recipe(device, precision, fused))  # type: ignore[arg-type]
            case = f"{framework}, {recipe.title}"
            if why := possible(framework, recipe):
                yield Line.skipped("weights", case, why)
                continue
            bare = train(framework, recipe, tracked=False)[1].state_dict()
            tracked = train(framework, recipe)[1].state_dict()
            differing = sum(not torch.equal(bare[name], tracked[name]) for name in bare)
            yield Line.of("weights", case, f"{differing} of {len(bare)} differ", "0", differing == 0)


# -- the bill ----------------------------------------------------------------------------------------------------


def bill(device: str) -> Iterator[Line]:
    """`final/energy_kWh` against power that is sampled here, `final/gpu_hours` against the wall clock."""
    from tests.gpu.power import Power, Wall

    for framework in TRAININGS:
        wall = Wall()
        size = {"steps": 2000, "width": 4096} if device != "cpu" else {"steps": 200, "width": 64}
        recipe = Recipe(device, every=100, depth=6, **size)  # type: ignore[arg-type]
        with Power(device) as power, tempfile.TemporaryDirectory() as out:
            sink = MemorySink()
            TRAININGS[framework](recipe, Path(out), [TrackKit(sinks=[sink], dir=out), wall.callback(framework)])
            trackkit.finish()
        hours = sink.columns.get("final/gpu_hours" if device != "cpu" else "final/duration_h", math.nan)
        good = abs(hours * 3600 - wall.seconds) <= max(0.5, 0.05 * wall.seconds)
        yield Line.of("GPU hours, in s", framework, f"{hours * 3600:.2f}", f"{wall.seconds:.2f} +- 5%", good)
        if power.kwh is None:
            yield Line.skipped("energy, kWh", framework, "NVML gives no power here")
            continue
        energy = sink.columns.get("final/energy_kWh", math.nan)
        good = abs(energy - power.kwh) <= 0.2 * power.kwh
        yield Line.of("energy, kWh", framework, f"{energy:.6f}", f"{power.kwh:.6f} +- 20%", good)


CHECKS = {
    "memory": memory,
    "syncs": syncs,
    "copies": copies,
    "norms": norms,
    "weights": weights,
    "bill": bill,
}
