"""Writes a training's rows, config and summary to one W&B run."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.engine.records import Row
from trackkit.engine.run_info import RunInfo
from trackkit.engine.sink import Sink
from trackkit.integrations.wandb.catch_up import FirstPass, lacking
from trackkit.integrations.wandb.held import held
from trackkit.integrations.wandb.init import WandbError, begin
from trackkit.integrations.wandb.process import give_up
from trackkit.integrations.wandb.steps import StepLog, define
from trackkit.integrations.wandb.sweep import SweepMetric
from trackkit.integrations.wandb.worker import Worker
from trackkit.notices import logger
from trackkit.schema.keys import axis_key
from trackkit.settings.config import TrackKitConfig

if TYPE_CHECKING:
    import wandb

    from trackkit.engine.run_info import History

HAND_OVER_S = 5.0

_beginning = threading.Lock()
_owners: list[WandbSink] = []


class WandbSink(Sink):
    """Writes one W&B run, from a thread of its own."""

    FATAL: ClassVar[tuple[type[Exception], ...]] = (WandbError,)

    def __init__(self, config: TrackKitConfig, nested: bool = False) -> None:
        self.run: wandb.Run | None = None
        self._config = config
        self._nested = nested
        self._owner = False
        self._defined: set[str] = set()
        self._first_pass = FirstPass()
        self._sweep = SweepMetric()
        self._steps: StepLog | None = None
        self._worker = Worker(config.finish_timeout)

    def open(self, info: RunInfo) -> None:
        why = self._open_run(info)
        run = self._of_run()
        self._update_config(info.config)
        self._steps = StepLog(run)
        self._sweep = SweepMetric.of(run)
        self._worker.start()
        if (earlier := info.earlier) is not None and self._owner:
            self._worker.submit(lambda: self._catch_up(earlier, info))
        why = f" ({why})" if why else ""
        where = run.url if not run.offline else f"offline{why}; to send it: trackkit sync {info.folder}"
        logger.info("run '%s': %s", run.name or info.name, where)

    def write(self, row: Row) -> None:
        self._worker.submit(lambda: self._log(row))

    def config(self, values: Mapping[str, Any]) -> None:
        kept = dict(values)
        self._worker.submit(lambda: self._update_config(kept))

    def summary(self, values: Mapping[str, Any]) -> None:
        kept = dict(values)
        self._worker.submit(lambda: self._of_run().summary.update(kept))
        # Training is over, and the next may be a `wandb.finish()`: the program's, or that of W&B's agent.
        self._worker.flush(min(HAND_OVER_S, self._config.finish_timeout))

    def preempting(self) -> None:
        run = self._of_run()
        if self._owner and not run.offline:
            self._worker.submit(run.mark_preempting)

    def close(self, exit_code: int) -> None:
        began, run = time.monotonic(), self.run if self._owner else None
        try:
            in_time = self._worker.end(None if run is None else lambda: run.finish(exit_code=exit_code))
            if not in_time:
                give_up(run)
            self._sweep.tell()
            if not self._worker.drained.is_set():
                self._warn("W&B has not taken all rows within %.0f s; the local log has them")
            elif not in_time:
                self._warn("W&B's own process has not answered within %.0f s; 'trackkit sync' sends what is missing")
            elif run is not None and not run.offline and time.monotonic() - began >= self._config.finish_timeout:
                self._warn("W&B has not taken everything within %.0f s; it is on disk, and 'trackkit sync' sends it")
        finally:
            if self in _owners:
                _owners.remove(self)
            if self._steps is not None:
                self._steps.close()
        self._worker.raise_failed()

    def flush(self, timeout_s: float) -> None:
        """Waits until everything submitted so far has been handed to W&B; not after `close`."""
        self._worker.flush(timeout_s)

    def _warn(self, what: str) -> None:
        logger.warning(what, self._config.finish_timeout)

    # -- the run -------------------------------------------------------------------------------------------------

    def _open_run(self, info: RunInfo) -> str:
        """Begins a run, or shares the one that is there; gives why it is offline, where that was not asked for."""
        import wandb

        with _beginning:
            # A run of TrackKit's own that is open in this process is another training's: never to be shared.
            nested = self._nested or (wandb.run is not None and wandb.run in [each.run for each in _owners])
            shared = info.start.foreign_run if info.start.foreign_run is not None else (None if nested else wandb.run)
            if shared is not None:
                self.run = shared
                return ""
            self._owner = True
            self.run, why = begin(self._config, info, nested)
            _owners.append(self)
            return why

    def _of_run(self) -> wandb.Run:
        assert self.run is not None
        return self.run

    # -- in the thread -------------------------------------------------------------------------------------------

    def _log(self, row: Row) -> None:
        for key in row.values:
            if key not in self._defined:
                self._defined.add(key)
                define(self._of_run(), key, self._config.epoch_axis)
        if values := self._first_pass.new(row):
            assert self._steps is not None
            self._steps.log(row.step, values | self._for_sweep(row), row.time)

    def _for_sweep(self, row: Row) -> dict[str, float | int]:
        key, name = self._sweep.key(row), self._sweep.name
        if not key:
            return {}
        if name not in self._defined:
            self._defined.add(name)
            define(self._of_run(), name, self._config.epoch_axis, axis_key(key, self._config.epoch_axis))
        return {name: row.values[key]}

    def _catch_up(self, earlier: History, info: RunInfo) -> None:
        """W&B gets the rows of earlier passes that it lacks; from then on only what is beyond them."""
        run, steps = self._of_run(), self._steps
        assert steps is not None
        there = held(run, info)
        if run.offline and there.last >= 0:
            steps.skip(there.last)
        for row in lacking(there, earlier):
            self._log(row)
        if info.start.is_fit:
            self._first_pass = FirstPass.of(there, earlier)

    def _update_config(self, values: Mapping[str, Any]) -> None:
        self._of_run().config.update(dict(values), allow_val_change=True)  # type: ignore[no-untyped-call]
