"""A run in W&B's shape, for code that logs by itself: `run.log(values, step)`, `run.finish()`."""

from __future__ import annotations

import atexit
import sys
from collections import UserDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trackkit.engine.records import Moment
from trackkit.errors import TrackKitError
from trackkit.integrations.guard import Kit, call_guarded, guarded_call
from trackkit.integrations.loop.block import Block
from trackkit.integrations.loop.describe import describe, hyperparameters
from trackkit.integrations.loop.values import check_mapping, integer, split
from trackkit.notices import ensure_heard, logger
from trackkit.record.run_config import plain
from trackkit.schema.keys import BATCH, sanitize
from trackkit.schema.prefixes import event_of, position_of

if TYPE_CHECKING:
    from trackkit.engine.run_info import Status


class Summary(UserDict[str, Any]):
    """The columns that `run.summary[name] = value` adds to the runs table, as `final/<name>`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        super().__init__()

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._run.tracker.note({f"final/{sanitize(name.removeprefix('final/'))}": plain(value)})


class Run(Block):
    """What `trackkit.init` returns: an open run. Call it on every rank: rank 0 records, the others' calls do nothing.

    Also a context manager, which finishes the run when its block is left.

    Args:
        kit: the TrackKit with the run's settings.
        config: the hyperparameters.

    Attributes:
        step: of the last row.
        summary: a dictionary; what is set in it becomes a column `final/<name>`.
    """

    def __init__(self, kit: Kit, config: Any) -> None:
        super().__init__(kit)
        self.summary = Summary(self)
        self.step = 0
        self._epoch: float | None = None
        self._finished, self._went_back, self._complete = False, False, True
        hparams = hyperparameters(config)
        self._open(lambda: describe(None, [], hparams))
        if self.session is not None and self.session.info.earlier is not None:
            self.step = max((row.step for row in self.session.info.earlier.rows), default=0)
        self._steps = self.step
        # Registered after the session's, so that it runs before: a script that ends without `finish` has not failed.
        atexit.register(self._at_exit)

    @guarded_call
    def log(self, values: Mapping[str, Any], step: int | None = None, commit: bool = True) -> None:
        """Records values. The names say what of: see `trackkit.schema.prefixes.event_of`.

        Values logged at one step make one row. Pictures, tables and texts become `samples/<name>`, as in
        `trackkit.log`.

        Args:
            values: name to value; mappings in it are flattened.
            step: optimizer steps taken. Default: `step` or `global_step` among the values, else one more than the last
                step; values of an evaluation or an epoch alone stay at the last step. A step before the last one is
                recorded as it is.
            commit: whether the step is complete. If not, the values that are logged next without a step join it.

        Raises:
            TrackKitError: the run is finished, or a wrong argument.
        """
        check_mapping("run.log", values)
        if self._finished:
            raise TrackKitError("run.log came after run.finish(): call trackkit.init() for another run.")
        named_step, epoch = position_of(values)
        step = named_step if step is None else step
        events = event_of(values)
        if step is None:
            step = self.step + (self._complete and any(where == BATCH for where, _ in events))
        given, step = step, integer(step)
        if step is None or step < 0:
            raise TrackKitError(f"run.log(step={given!r}): a step is a whole number, 0 or more")
        if step < self.step and not self._went_back:
            self._went_back = True
            ensure_heard()
            logger.info(
                f"run.log: step {step} came after step {self.step}. It is recorded at its own step; in W&B charts "
                "against `batch/step` show it there."
            )
        self.step, self._epoch = step, epoch
        self._steps = max(self._steps, step)
        self._complete = commit
        for where, named in events:
            numbers, others = split(named)
            if numbers:
                self.tracker.report(numbers, where, step, epoch)
            if others:
                self.tracker.log(others)

    def finish(self, exit_code: int = 0) -> None:
        """Closes the run: `finished` with exit code 0, else `failed`. Does nothing for a run that is closed."""
        call_guarded(self._kit, "run.finish", self._end, "failed" if exit_code else "finished", exit_code)

    def __enter__(self) -> Run:
        return self

    def _end(self, status: Status, exit_code: int | None = None, error: BaseException | None = None) -> None:
        atexit.unregister(self._at_exit)
        if not self._finished:
            self._finished = True
            self.tracker.note({"final/steps": self._steps})
            super()._end(status, exit_code, error)

    def _at_exit(self) -> None:
        # After an error that ended the program, the session closes its run as failed.
        if getattr(sys, "last_value", None) is None:
            self.finish()

    def _moment(self) -> Moment:
        return Moment(self.step, self._epoch)
