"""Finds this process's rank, and carries the ranks' values to rank 0. No other file asks for a rank.

No collective is issued, and the training thread waits for no rank: each rank appends one small record per row to
the process group's store, and a thread of rank 0 collects them. A missing rank is a missing record.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackkit.engine.processes import process_fields, process_life
from trackkit.notices import logger

OVERDUE_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Rank:
    """This process among the ranks of the training."""

    rank: int = 0
    world_size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the run."""
        return self.rank == 0


def current() -> Rank:
    """Returns the rank in torch's process group, else the one of the launcher's RANK and WORLD_SIZE."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return Rank(dist.get_rank(), dist.get_world_size())
    try:
        return Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    except (KeyError, ValueError):
        return Rank()


SHARDS = "_shards/"
"""Prefix of a value that is a sum of squares over this rank's part: the key is without it, and the value over all ranks
their root. Without all ranks there is none."""


class Exchange:
    """The null exchange of a single rank.

    Attributes:
        keys: of the values that are combined over ranks; others are not sent.
        prefixes: of further such keys, of which each rank may have others.
    """

    keys: Sequence[str] = ()
    prefixes: tuple[str, ...] = ()

    def post(self, row: int, step: int, values: Mapping[str, float]) -> None:
        """Sends this rank's values of a row to rank 0. Takes tens of microseconds; waits for no other rank.

        Args:
            row: its number on this rank, for the other methods.
            step: of the row; the other ranks' rows of the same step belong to it.
            values: by key.
        """

    def ready(self, row: int) -> bool:
        """Returns whether the other ranks' values of a row are here, or overdue."""
        return True

    def combine(self, row: int) -> dict[str, float]:
        """Returns a row's values over all ranks, combined as the callbacks' `REDUCE` says. Empty for a single rank."""
        return {}

    def wait(self, row: int, timeout_s: float) -> None:
        """Waits until the row is ready, at the end of training."""

    def publish(self, name: str, text: str) -> None:
        """Leaves a text for another rank."""

    def published(self, name: str) -> str | None:
        """Returns a text that another rank has left; None without one. Called by one thread at a time."""
        return None

    def preempted(self) -> bool:
        """Returns whether a SIGTERM ends the whole job, rather than the ranks that outlive a failed one."""
        return True

    def close(self) -> None:
        """Stops the collecting thread."""


def open_exchange(rank: Rank, reduce: Mapping[str, str]) -> Exchange:
    """Opens the exchange between ranks; the null exchange for a single rank or without a TCPStore.

    Args:
        rank: this process.
        reduce: key to how rank 0 combines the ranks' values: see `Callback.REDUCE`. Other values are not sent.
    """
    if rank.world_size == 1:
        return Exchange()
    store = _tcp_store()
    if store is None:
        if rank.writes:
            logger.info("this process group has no TCPStore: values are those of rank 0, not of all ranks")
        return Exchange()
    return StoreExchange(store, rank, reduce)


class StoreExchange(Exchange):
    """Sends records through clones of the process group's TCPStore, under a prefix of their own.

    A record is the rank, a bit mask of the values present, and one float64 per key; then, as JSON, the values whose
    keys have a prefix; then a line's end.
    """

    def __init__(self, store: Any, rank: Rank, reduce: Mapping[str, str]) -> None:
        from torch._C._distributed_c10d import PrefixStore

        self._rank = rank
        self._reduce = reduce
        self.keys = sorted(key for key in reduce if key[-1] != "/")
        self.prefixes = tuple(key for key in reduce if key[-1] == "/")
        self._record = struct.Struct(f"<IQ{len(self.keys)}d")
        # One clone per thread: a store's connection serves one caller at a time.
        self._store = store.clone()
        turn = self._store.add(f"trackkit/starts/{rank.rank}", 1)
        self._prefix = prefix = f"trackkit/{turn}"
        self._reading: Any = None
        self._mine: Any = PrefixStore(prefix, self._store)
        self._theirs: Any = PrefixStore(prefix, store.clone()) if rank.writes else None
        self._neighbours = f"{prefix}/processes/{socket.gethostname()}"
        self._store.append(self._neighbours, json.dumps(process_fields()) + "\n")
        self._step, self._again = -1, 0
        self._wanted: dict[int, tuple[str, float]] = {}
        self._arrived: dict[int, list[dict[str, float]]] = {}
        self._change = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def post(self, row: int, step: int, values: Mapping[str, float]) -> None:
        mask, numbers = 0, []
        for bit, key in enumerate(self.keys):
            mask |= (key in values) << bit
            numbers.append(float(values.get(key, 0.0)))
        record = base64.b64encode(self._record.pack(self._rank.rank, mask, *numbers)).decode()
        more = {key: value for key, value in values.items() if key.startswith(self.prefixes)}
        record += f" {json.dumps(more)}\n" if more else "\n"
        # Not by its number: ranks that don't write may have no rows of evaluations and logs.
        self._again = self._again + 1 if step == self._step else 0
        self._step = step
        place = f"{step}/{self._again}"
        if self._theirs is not None:
            with self._change:
                self._wanted[row] = (place, time.monotonic() + OVERDUE_S)
                self._change.notify_all()
            self._start()
        self._mine.append(place, record)

    def ready(self, row: int) -> bool:
        return row not in self._wanted

    def combine(self, row: int) -> dict[str, float]:
        records = self._arrived.pop(row, [])
        combined: dict[str, float] = {}
        for key, how in self._reduce.items():
            found = [record[key] for record in records if key in record]
            if len(found) > 1:
                combined[key] = _combined(how, found)
        for key in {key for record in records for key in record if key.startswith(self.prefixes)}:
            how = next(how for prefix, how in self._reduce.items() if key.startswith(prefix) and prefix[-1] == "/")
            found = [record[key] for record in records if key in record]
            if how != "root_sum" or len(found) == self._rank.world_size:
                combined[key] = _combined(how, found)
        return combined

    def wait(self, row: int, timeout_s: float) -> None:
        with self._change:
            self._change.wait_for(lambda: row not in self._wanted, timeout_s)

    def publish(self, name: str, text: str) -> None:
        with contextlib.suppress(Exception):
            self._mine.set(name, text)

    def published(self, name: str) -> str | None:
        from torch._C._distributed_c10d import PrefixStore

        with contextlib.suppress(Exception):
            if self._reading is None:
                self._reading = PrefixStore(self._prefix, self._store.clone())
            return str(self._reading.get(name).decode()) if self._reading.check([name]) else None
        return None

    def preempted(self) -> bool:
        """Returns whether SIGTERM ends the whole job; a launcher also sends it to the ranks that outlive a dead one.

        If the whole job ends, the first rank to get the signal finds all others of its machine alive, and stores that
        for them.
        """
        with contextlib.suppress(Exception):
            processes = self._store.get(self._neighbours).decode().splitlines()
            if any(process_life(json.loads(each)) == "gone" for each in processes):
                return bool(self._mine.check(["preempted"]))
            self._mine.set("preempted", "")
        return True

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._wanted.clear()
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._collect, name="trackkit-ranks", daemon=True)
            self._thread.start()

    def _collect(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                wanted = dict(self._wanted)
            try:
                progress = [self._look(row, key, deadline) for row, (key, deadline) in wanted.items()]
            except Exception:  # noqa: BLE001 -- a lost store must not end the training
                logger.warning("the process group's store is gone: later values are those of rank 0", exc_info=True)
                self._give_up()
                return
            if not any(progress):
                time.sleep(_POLL_S)

    def _look(self, row: int, key: str, deadline: float) -> bool:
        """Collects a row's records if all are here or the row is overdue, and returns whether it did."""
        assert self._theirs is not None
        data = self._theirs.get(key) if self._theirs.check([key]) else b""
        if data.count(b"\n") < self._rank.world_size and time.monotonic() < deadline:
            return False
        if data:
            self._theirs.delete_key(key)
        self._arrived[row] = [self._unpack(record) for record in data.splitlines()]
        with self._change:
            self._wanted.pop(row, None)
            self._change.notify_all()
        return True

    def _unpack(self, record: bytes) -> dict[str, float]:
        fixed, _, more = record.partition(b" ")
        _, mask, *numbers = self._record.unpack(base64.b64decode(fixed))
        return {
            **json.loads(more or b"{}"),
            **{key: numbers[bit] for bit, key in enumerate(self.keys) if mask >> bit & 1},
        }

    def _give_up(self) -> None:
        with self._change:
            self._closed = True
            self._theirs = None
            self._wanted.clear()
            self._change.notify_all()


def _combined(how: str, values: list[float]) -> float:
    if how == "mean":
        return sum(values) / len(values)
    if how == "max":
        return max(values)
    return math.sqrt(sum(values)) if how == "root_sum" else sum(values)


def _tcp_store() -> Any | None:
    """Returns the default process group's TCPStore, without its prefixes; None if it has none."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return None
    store: Any = None
    with contextlib.suppress(ImportError, AttributeError, RuntimeError, ValueError):
        from torch._C._distributed_c10d import PrefixStore, TCPStore

        store = dist.distributed_c10d._get_default_store()  # noqa: SLF001 -- torch has no public way to the store
        while isinstance(store, PrefixStore):
            store = store.underlying_store
        return store if isinstance(store, TCPStore) else None
    return None
