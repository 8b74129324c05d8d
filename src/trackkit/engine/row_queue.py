"""The rows that wait, in order, until the device and the other ranks have given what is theirs; then they go out."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from trackkit.engine.faults import Callbacks, Faults, Sinks
from trackkit.engine.ranks import Exchange
from trackkit.engine.rows import OpenRow, SealedRow

MAX_WAITING = 64


class WaitingRows:
    """The way of a sealed row to the callbacks' last look, to rank 0 and to the sinks.

    Args:
        callbacks, sinks, faults: of the run.
        exchange: the road between ranks.
        reduce: key to how rank 0 puts the ranks' values of it together: see `Callback`.

    Attributes:
        rows: that wait, oldest first.
    """

    def __init__(
        self, callbacks: Callbacks, sinks: Sinks, faults: Faults, exchange: Exchange, reduce: Mapping[str, str]
    ) -> None:
        self.rows: deque[SealedRow] = deque()
        self._count = 0
        self._callbacks, self._sinks, self._faults = callbacks, sinks, faults
        self._exchange = exchange
        self._reduce = reduce
        self._draining = False

    def add(self, row: OpenRow, values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
        """The row is complete but for what is on its way."""
        self.rows.append(SealedRow(self._count, row, values, origins))
        self._count += 1

    def drain(self, wait_s: float) -> None:
        """Emits, in order, the rows whose values are in; where too many wait, the oldest goes without its late ones.

        Args:
            wait_s: if not 0, values of the device are waited for, and those of the ranks for so many seconds.
        """
        # A signal's handler that saves a checkpoint may come in between: what it would emit follows at once.
        if self._draining:
            return
        self._draining = True
        deadline = time.monotonic() + wait_s
        try:
            while self.rows and self._is_complete(self.rows[0], wait_s, deadline):
                self._emit(self.rows.popleft())
        finally:
            self._draining = False

    def close(self) -> None:
        """No more rows."""
        self._exchange.close()

    def _is_complete(self, row: SealedRow, wait_s: float, deadline: float) -> bool:
        pressed = len(self.rows) > MAX_WAITING
        if row.transfer is not None and not (row.transfer.ready or wait_s):
            if not pressed:
                return False
            row.transfer = None
        if not row.posted:
            self._post(row)
        if not pressed and not self._exchange.ready(row.number):
            if not wait_s:
                return False
            self._exchange.wait(row.number, max(0.0, deadline - time.monotonic()))
        return True

    def _post(self, row: SealedRow) -> None:
        """The row's values have reached the host: they are this rank's record."""
        row.posted = True
        row.arrive()
        if not row.measured:
            return
        self._callbacks.each("finish", lambda callback: callback.finish(row.values))
        if any(key[0] == "_" for key in row.values):
            row.values = {key: value for key, value in row.values.items() if key[0] != "_"}
        try:
            self._exchange.post(row.number, row.step, row.values)
        except Exception as error:
            self._faults.add("the exchange between ranks", error)
            self._exchange = Exchange()

    def _emit(self, sealed: SealedRow) -> None:
        records = self._exchange.take(sealed.number)
        for key, how in self._reduce.items():
            found = [record[key] for record in records if key in record]
            if len(found) > 1 and key in sealed.values:
                sealed.values[key] = _together(how, found)
        row = sealed.record()
        self._sinks.each("write", lambda sink: sink.write(row))
        self._callbacks.each("emitted", lambda callback: callback.emitted(row))


def _together(how: str, values: list[float]) -> float:
    if how == "mean":
        return sum(values) / len(values)
    if how == "max":
        return max(values)
    return math.sqrt(sum(values)) if how == "root_sum" else sum(values)
