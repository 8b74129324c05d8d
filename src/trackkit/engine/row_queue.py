"""Holds sealed rows, in order, until the device and the other ranks have given their values; then emits them."""

from __future__ import annotations

import time
from collections import deque

from trackkit.engine.faults import Faults, Group
from trackkit.engine.ranks import SHARDS, Exchange
from trackkit.engine.records import Row
from trackkit.engine.rows import OpenRow

MAX_WAITING = 64


class RowQueue:
    """Takes sealed rows through the callbacks' `finish` and the exchange between ranks to the sinks.

    Args:
        callbacks, sinks, faults: of the run.
        exchange: sends values to rank 0.

    Attributes:
        rows: waiting, oldest first.
    """

    def __init__(self, callbacks: Group, sinks: Group, faults: Faults, exchange: Exchange) -> None:
        self.rows: deque[OpenRow] = deque()
        self._count = 0
        self._callbacks, self._sinks, self._faults = callbacks, sinks, faults
        self._exchange = exchange
        self._draining = False

    def add(self, row: OpenRow) -> None:
        """Appends a sealed row."""
        row.number = self._count
        self._count += 1
        self.rows.append(row)

    def drain(self, wait_s: float = 0.0) -> None:
        """Emits, in order, the rows whose values are complete. If too many wait, the oldest goes without its late ones.

        Args:
            wait_s: if not 0, waits for device values, and for so many seconds for those of other ranks.
        """
        # A signal handler that saves a checkpoint may interrupt a drain: what it would emit follows at once.
        if self._draining:
            return
        self._draining = True
        deadline = time.monotonic() + wait_s
        try:
            while self.rows and self._is_complete(self.rows[0], wait_s, deadline):
                row = self.rows.popleft()
                combined = self._exchange.combine(row.number)
                anew = self._exchange.prefixes
                row.values.update({k: value for k, value in combined.items() if k in row.values or k.startswith(anew)})
                for key in [key for key in row.values if key.startswith(SHARDS)]:
                    # A norm that the framework or the user gave counts.
                    row.values.setdefault(key.removeprefix(SHARDS), row.values.pop(key))
                emitted = Row(row.number, row.where.tier, row.step, row.time, row.values, row.origins)
                self._callbacks.call("emitted", emitted)
                self._sinks.call("write", emitted)
        finally:
            self._draining = False

    def close(self) -> None:
        """Ends the exchange between ranks."""
        self._exchange.close()

    def _is_complete(self, row: OpenRow, wait_s: float, deadline: float) -> bool:
        """Returns whether a row can be emitted. Its own values, once they are here, are posted to rank 0."""
        pressed = len(self.rows) > MAX_WAITING
        if not row.posted and not self._post(row, wait_s > 0, pressed):
            return False
        if pressed or self._exchange.ready(row.number):
            return True
        if wait_s:
            self._exchange.wait(row.number, max(0.0, deadline - time.monotonic()))
        return wait_s > 0

    def _post(self, row: OpenRow, wait: bool, pressed: bool) -> bool:
        """Reads the row's device values and posts all to rank 0. Returns False while the device is not done."""
        copy = row.copy
        if copy is not None:
            ready = wait or copy.ready
            if not (ready or pressed):
                return False
            # A copy that can't be read costs the row its device values, not the run its rows.
            row.copy = None
            if ready:
                row.values = copy.values()
        row.posted = True
        if row.by_step:
            self._callbacks.call("finish", row.values)
            keys, prefixes = self._exchange.keys, self._exchange.prefixes
            shared = {key: row.values[key] for key in keys if key in row.values}
            shared.update({key: value for key, value in row.values.items() if key.startswith(prefixes)})
            if any(key[0] == "_" for key in row.values):
                row.values = {key: value for key, value in row.values.items() if key[0] != "_"}
            try:
                self._exchange.post(row.number, row.step, shared)
            except Exception as error:  # noqa: BLE001 -- counted
                self._faults.add("the exchange between ranks", error)
                self._exchange = Exchange()
        return True
