"""The engine: opens, fills and seals rows, and sends them on their way. Knows no framework and no backend."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trackkit.engine.callback import Callback
from trackkit.engine.faults import Callbacks, Faults, Sinks
from trackkit.engine.ranks import Exchange
from trackkit.engine.records import Gradients, Moment
from trackkit.engine.row_queue import WaitingRows
from trackkit.engine.rows import OpenRow, numbers
from trackkit.engine.run_info import RunInfo, Status
from trackkit.engine.sink import Sink
from trackkit.engine.window import Window
from trackkit.notices import logger
from trackkit.schema.keys import BATCH, Where
from trackkit.schema.names import Names

if TYPE_CHECKING:
    import torch

END_WAIT_S = 2.0
FLUSH_S = 0.5


class Tracker:
    """One run. The calls are: `start`, `gradients`, `batch`, `row`, `report`, `pause`, `seal`, `end`, `close`.

    Args:
        callbacks: what is captured.
        sinks: where rows go; none on ranks that don't write.
        exchange: the road between ranks.
        names: how logged names become keys.

    Attributes:
        position: tells where the training stands, for a last row that no adapter announces; None outside of one.
        hold: while a row is made, a signal that would end the run waits.
        faults: the errors that TrackKit has survived in this run.
        status: how the training ended, or `running`.
    """

    def __init__(
        self, callbacks: Sequence[Callback], sinks: Sequence[Sink], exchange: Exchange, names: Names | None = None
    ) -> None:
        self.faults = Faults()
        self._callbacks = Callbacks(callbacks, self.faults)
        self._sinks = Sinks(sinks, self.faults)
        reduce = {key: how for callback in callbacks for key, how in callback.REDUCE.items()}
        self._waiting = WaitingRows(self._callbacks, self._sinks, self.faults, exchange, reduce)
        self._names = names or Names()
        self._renames: Mapping[str, Any] = {}
        self._no_numbers: set[str] = set()
        self._window = Window()
        self._open: OpenRow | None = None
        self._owes_row = self._captured = self._fresh = False
        self._more: dict[str, Any] = {}
        self.position: Callable[[], Moment] | None = None
        self.hold: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        self.status: Status = "running"

    def start(self, info: RunInfo) -> None:
        """Opens the sinks: local first."""
        self._sinks.each("open", lambda sink: sink.open(info))
        self._callbacks.each("start", lambda callback: callback.start(info))
        if info.earlier is not None:
            for row in info.earlier.up_to(info.start.step) if info.start.is_fit else info.earlier.rows:
                self._callbacks.each("emitted", lambda callback, row=row: callback.emitted(row))  # type: ignore[misc]
        self._window = Window(info.start.samples, info.start.tokens)

    def restart(self, info: RunInfo) -> None:
        """Training begins in a run that an evaluation has opened, or begins anew."""
        self.seal()
        self._sinks.each("config", lambda sink: sink.config(info.config))
        self._callbacks.each("start", lambda callback: callback.start(info))
        self._window = Window(info.start.samples, info.start.tokens)

    def gradients(self, gradients: Gradients) -> None:
        """Gradients are present on a step that may make a row."""
        if self._captured and not self._fresh:
            self._forget()
        self._fresh = self._captured = True
        self._callbacks.each("gradients", lambda callback: callback.gradients(gradients))

    def batch(
        self,
        loss: torch.Tensor | None = None,
        samples: int | None = 0,
        tokens: int = 0,
        data_s: float = 0.0,
        steps: int = 0,
    ) -> None:
        """A batch was processed.

        Args:
            loss: the batch's, undivided by accumulation: a detached scalar tensor that nobody else will overwrite.
            samples, tokens: in this batch, over all ranks; 0 where unknown. None: the samples can't be counted on.
            data_s: seconds spent waiting for its data.
            steps: optimizer steps taken on it and the batches since the last one; 0 where gradients accumulate.
        """
        if self._open is not None:
            self.seal()
        elif self._waiting.rows:
            self._drain()
        self._window.add(loss, samples, tokens, data_s, steps)
        if steps:
            self._owes_row = True
            if self._captured and not self._fresh:
                self._forget()
            self._fresh = False

    @property
    def seen(self) -> tuple[int, int]:
        """Samples and tokens so far, over all ranks, those of the steps that have made no row yet included."""
        return self._window.seen

    def skipped(self, flag: torch.Tensor | bool) -> None:
        """The gradient scaler's found-inf flag of a step."""
        if isinstance(flag, bool):
            self._window.skipped += flag
        else:
            self._window.skip_flags.append(flag)

    def row(self, moment: Moment) -> None:
        """The step just taken makes a row."""
        self._settle()
        with self.hold():
            self._open_batch_row(moment)

    def report(
        self,
        values: Mapping[str, Any],
        where: Where,
        step: int,
        epoch: float | None = None,
        framework: bool = False,
    ) -> None:
        """The framework or the user logged something.

        Args:
            values: logged name to a number or a tensor of one element. With `framework`, key to value: what the
                framework itself measured, which beats what TrackKit measures.
            where: the event.
            step: optimizer steps taken.
            epoch: passes through the data, fractional.
            framework: see `values`.

        Raises:
            SchemaError: a name that `names: strict` refuses.
        """
        if self._open is not None and (self._open.where.tier != where.tier or self._open.step != step):
            self.seal()
        if self._open is None:
            self._open = OpenRow(where, step, epoch)
        values = numbers(values, self._no_numbers)
        if framework:
            self._open.framework.update(values)
        else:
            self._open.logged.setdefault(where, {}).update(values)

    def seal(self) -> None:
        """The open row takes no more reports; it is emitted once its values are on the host."""
        if self._open is None:
            return
        with self.hold():
            open_row, self._open = self._open, None
            values, origins = open_row.resolve(self._names)
            self._tell_renames()
            if len(values) > len(open_row.axes):
                self._waiting.add(open_row, values, origins)
            self._drain()

    def flush(self) -> None:
        """Emits the rows sealed so far, once their values are in: waits for the device, and a moment for the ranks."""
        if self._waiting.rows:
            self._drain(FLUSH_S)

    def pause(self, what: str, seconds: float) -> None:
        """`seconds` of wall time went to `what` ("evaluation", "checkpoint"), not to training."""
        self._window.pause(seconds)

    def end(self, status: Status) -> None:
        """Training is over. The last step makes a row; evaluations may still be reported."""
        self.seal()
        self.last_row()
        self.position = None
        self.seal()
        self._drain(END_WAIT_S)
        self.status = status
        self._callbacks.each("ended", lambda callback: callback.ended())
        self.summarise()

    def last_row(self) -> None:
        """The last step makes a row, unless it has one."""
        if self.position is None:
            return
        try:
            moment = self.position()
            if self._owes_row:
                if self._captured and self._fresh:
                    # Of a step that was not completed.
                    self._forget()
                self.row(moment)
        except Exception as error:
            self.faults.add("the last step's row", error)

    def note(self, columns: Mapping[str, Any]) -> None:
        """Summary columns that the framework itself gives."""
        self._more.update(columns)

    def summarise(self) -> None:
        """Writes the summary columns as they are now."""
        self.seal()
        values: dict[str, Any] = {}
        self._callbacks.each("final", lambda callback: values.update(callback.final()))
        values.update(self._more)
        finite = {key: value for key, value in values.items() if not isinstance(value, float) or math.isfinite(value)}
        finite["final/status"] = self.status
        finite["final/tracker_errors"] = told = self.faults.count
        self._sinks.each("summary", lambda sink: sink.summary(finite))
        self._tell_faults(told)

    def preempting(self) -> None:
        """The machine is being taken away; the run may be requeued."""
        self._sinks.each("preempting", lambda sink: sink.preempting())

    def close(self, exit_code: int = 0) -> None:
        """No more reports: finishes the run in every sink."""
        try:
            self.seal()
            self._drain(END_WAIT_S)
        except Exception as error:
            self.faults.add("the last rows", error)
        self._waiting.close()
        told = self.faults.count
        self._sinks.each("close", lambda sink: sink.close(exit_code))
        self._tell_faults(told)
        self._sinks.let_go(exit_code)
        self.faults.sum_up()

    def _forget(self) -> None:
        self._captured = False
        self._callbacks.each("forget", lambda callback: callback.forget())

    def _settle(self) -> None:
        if self._open is not None:
            self.seal()
        elif self._waiting.rows:
            self._drain()

    def _open_batch_row(self, moment: Moment) -> None:
        row = self._open = OpenRow(BATCH, moment.step, moment.epoch, by_step=True)
        if moment.total_steps is not None:
            row.axes["batch/iter_num"] = moment.total_steps
        window, self._window = self._window, Window(*self._window.seen)
        self._owes_row = self._captured = False
        self._callbacks.each("row", lambda callback: row.measured.update(callback.row(moment, window)))

    def _drain(self, wait_s: float = 0.0) -> None:
        with self.hold():
            self._waiting.drain(wait_s)

    def _tell_renames(self) -> None:
        for notice in self._names.notices():
            logger.warning(notice)
        renames = self._names.renames
        if renames != self._renames:
            self._renames = renames
            self._sinks.each("config", lambda sink: sink.config({"trackkit/renames": renames}))

    def _tell_faults(self, told: int) -> None:
        """Writes how many there are now, where telling has made more of them."""
        if self.faults.count != told:
            self._sinks.each("summary", lambda sink: sink.summary({"final/tracker_errors": self.faults.count}))
