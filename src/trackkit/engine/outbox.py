"""Retries sinks that fail: what a sink could not write waits in memory until it works again."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trackkit.engine import stopwatch
from trackkit.engine.callback import Callback
from trackkit.engine.faults import Faults, Group
from trackkit.engine.records import Checkpoint, Gap, Line, Row
from trackkit.engine.run_info import RunInfo
from trackkit.engine.sink import Sink
from trackkit.notices import logger

# Seconds between tries: the first pause, doubled after each further failure, and the longest.
FIRST_S, LONGEST_S = 1.0, 60.0
# After a try that took t seconds, the next one is at least 20 t later: retries cost a training at most 5%.
SHARE = 20
# Values of the rows that wait: about 30 MB, or 10,000 rows.
MAX_VALUES = 200_000
# A call that has failed so often (which takes two minutes), not with an OSError, is given up so that later ones run.
TRIES = 7
# How many calls in a row may be given up before the next pause.
AT_ONCE = 3

# In the order of delivery.
_METHODS = ("open", "config", "gap", "write", "summary", "preempting")


class Outbox(Sink):
    """Takes the place of a sink that has failed, and calls it again.

    The first call after the pause tries again, and so does the close. Nothing waits for the pause to end. A sink counts
    as working again after it has worked for as long as the pause was, since some raise one or two calls late.

    Rows are delivered in order. If too many wait, the oldest are dropped, and the sink marks a gap.

    Args:
        sink: the one that has failed.
        faults: of the run.
    """

    def __init__(self, sink: Sink, faults: Faults) -> None:
        self._sink, self._faults = sink, faults
        self._name = f"sink '{type(sink).__name__}'"
        self._lanes: dict[str, deque[Any]] = {method: deque() for method in _METHODS}
        self._tries = dict.fromkeys(_METHODS, 0)
        self._values = 0
        self._lost: Gap | None = None
        self._given_up: list[str] = []
        self._works, self._closes, self._failures = True, False, 0
        self._pause_s = self._failed_at = self._retry_at = 0.0
        # Lines that the program prints come from a thread of their own.
        self._lock = threading.RLock()

    def open(self, info: RunInfo) -> None:
        self._add("open", info)

    def write(self, row: Row) -> None:
        self._add("write", row)

    def config(self, values: Mapping[str, Any]) -> None:
        self._merge("config", values)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._merge("summary", values)

    def preempting(self) -> None:
        self._add("preempting")

    def samples(self, values: Mapping[str, Any], step: int) -> None:
        self._sink.samples(values, step)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self._sink.checkpoint(checkpoint)

    def console(self, lines: Sequence[Line]) -> None:
        self._sink.console(lines)

    def close(self, exit_code: int) -> None:
        with self._lock:
            self._closes = True
            self._deliver()
            while self._lanes["write"]:
                self._lose()
            self._deliver_lane("gap", stopwatch.now())
            self._given_up += [method for method in ("config", "summary") if self._lanes[method]]
            with contextlib.suppress(Exception):
                self._sink.close(exit_code)
        parts = [str(self._lost)] * (self._lost is not None) + [f"the {each}" for each in self._given_up]
        if parts:
            logger.warning("%s lacks %s, which could not be written.", self._name, " and ".join(parts))

    def failed(self, method: str, args: tuple[Any, ...], error: Exception) -> None:
        """Keeps the arguments of the call with which the sink failed first."""
        began = stopwatch.now()
        with self._lock:
            self._failed(method, error, began)
            if method == "close":
                self.close(*args)
            elif method in ("config", "summary"):
                self._lanes[method].append((dict(*args),))
            else:
                self._append(method, args)

    def _add(self, method: str, *args: Any) -> None:
        with self._lock:
            self._append(method, args)
            self._deliver()

    def _merge(self, method: str, values: Mapping[str, Any]) -> None:
        with self._lock:
            lane = self._lanes[method]
            before = lane.pop()[0] if lane else {}
            lane.append(({**before, **values},))
            self._deliver()

    def _append(self, method: str, args: tuple[Any, ...]) -> None:
        self._lanes[method].append(args)
        if method == "write":
            self._values += len(args[0].values)
            while self._values > MAX_VALUES:
                self._lose()

    def _lose(self) -> None:
        """Drops the oldest row that waits, and adds it to the gap."""
        (row,) = self._lanes["write"].popleft()
        self._values -= len(row.values)
        self._tries["write"] = 0
        gap, lane = Gap(1, row.step, row.step), self._lanes["gap"]
        self._lost = gap.joined(self._lost) if self._lost is not None else gap
        lane.append((gap.joined(lane.pop()[0]) if lane else gap,))

    def _deliver(self) -> None:
        """Calls the sink for all that waits, unless the pause is not over."""
        began, before = stopwatch.now(), self._failures
        if began < self._retry_at and not self._closes:
            return
        if self._deliver_lane("open", began):
            for method in _METHODS[1:]:
                self._deliver_lane(method, began)
        proved = self._closes or began > self._failed_at + 2 * self._pause_s
        if not self._works and proved and self._failures == before:
            self._works, self._pause_s = True, 0.0
            logger.info("%s works again.", self._name)

    def _deliver_lane(self, method: str, began: float) -> bool:
        """Calls the sink for what waits for one of its methods. Returns whether nothing is left."""
        lane, dropped = self._lanes[method], 0
        while lane and dropped < AT_ONCE:
            if method == "write" and not self._deliver_lane("gap", began):
                return False
            try:
                getattr(self._sink, method)(*lane[0])
            except Exception as error:  # noqa: BLE001 -- counted
                self._tries[method] += 1
                self._failed(method, error, began)
                if isinstance(error, OSError) or method in ("open", "gap"):
                    return False
                if self._tries[method] == TRIES or (self._closes and self._tries[method] > 1):
                    self._give_up(method)
                    dropped += 1
                elif not self._closes:
                    return False
            else:
                self._tries[method] = dropped = 0
                args = lane.popleft()
                self._values -= len(args[0].values) if method == "write" else 0
        return not lane

    def _give_up(self, method: str) -> None:
        """Drops what has failed too often."""
        if method == "write":
            self._lose()
        else:
            self._lanes[method].popleft()
            self._tries[method] = 0
            self._given_up.append(method)

    def _failed(self, method: str, error: Exception, began: float) -> None:
        now = stopwatch.now()
        if self._works:
            self._faults.add(f"{self._name} ({method})", error, retried=True)
        self._works = False
        self._failures += 1
        self._failed_at = now
        if now >= self._retry_at:
            self._pause_s = min(max(2 * self._pause_s, FIRST_S), LONGEST_S)
            self._retry_at = now + max(self._pause_s, SHARE * (now - began))


class Sinks(Group):
    """The sinks of a run. One that raises is retried; the others continue.

    Args:
        sinks: in the order in which they are called.
        faults: counts the errors.
    """

    def __init__(self, sinks: Iterable[Sink], faults: Faults) -> None:
        super().__init__(sinks, Sink, faults)
        self._unopened: list[Callback | Sink] = []
        self._deaf: dict[Callback | Sink, tuple[float, float]] = {}

    def failed(self, member: Callback | Sink, method: str, args: tuple[Any, ...], error: Exception) -> None:
        """Puts an outbox in the place of a sink that has raised."""
        assert isinstance(member, Sink)
        if isinstance(member, Outbox) or (method == "open" and not member.REOPENS):
            self._unopened.append(member)
            super().failed(member, method, args, error)
        else:
            outbox = Outbox(member, self._faults)
            self._replace(member, outbox)
            outbox.failed(method, args, error)

    def console(self, lines: Sequence[Line]) -> None:
        """Passes on lines that the program printed. A sink that raises gets none for a while; the file has them all."""
        for sink in list(self._members):
            until, pause = self._deaf.get(sink, (0.0, 0.0))
            if stopwatch.now() < until:
                continue
            try:
                sink.console(lines)  # type: ignore[union-attr]
            except Exception as error:  # noqa: BLE001 -- counted
                if not pause:
                    self._faults.add(f"sink '{type(sink).__name__}' (console)", error)
                pause = min(max(2 * pause, FIRST_S), LONGEST_S)
                self._deaf[sink] = stopwatch.now() + pause, pause
            else:
                self._deaf.pop(sink, None)

    def samples(self, values: Mapping[str, Any], step: int) -> None:
        """Passes on media from `trackkit.log`; if a sink raises, they are lost to it, and the error is counted."""
        self._once("samples", values, step)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Passes on a checkpoint; if a sink raises, the error is counted."""
        self._once("checkpoint", checkpoint)

    @property
    def uploads(self) -> list[Any]:
        """What takes the files of checkpoints."""
        return [sink.uploads for sink in self._members if sink.uploads is not None]  # type: ignore[union-attr]

    def _once(self, method: str, *args: Any) -> None:
        for sink in list(self._members):
            try:
                getattr(sink, method)(*args)
            except Exception as error:  # noqa: BLE001 -- counted
                self._faults.add(f"sink '{type(sink).__name__}' ({method})", error)

    def release(self, exit_code: int) -> None:
        """Closes the disabled sinks, which may still hold files open; ignores errors."""
        for sink in self._unopened:
            with contextlib.suppress(Exception):
                sink.close(exit_code)  # type: ignore[union-attr]
        self._unopened = []
