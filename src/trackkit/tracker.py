"""The engine: opens, fills, seals and emits rows. Knows no framework and no backend."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trackkit.callbacks.base import Callback
from trackkit.naming import Names
from trackkit.notices import logger
from trackkit.pending import Transfer
from trackkit.ranks import Exchange
from trackkit.records import BATCH, Gradients, Moment, Row, RunInfo, Status, Where
from trackkit.sinks import Sink
from trackkit.window import Window

if TYPE_CHECKING:
    import torch

MAX_WAITING = 64
END_WAIT_S = 2.0
FLUSH_S = 0.5


class _OpenRow:
    """A row that still takes reports."""

    def __init__(self, where: Where, step: int, axes: dict[str, float | int]) -> None:
        self.where = where
        self.step = step
        self.time = time.time()
        self.axes = axes
        self.by_step = False
        self.measured: dict[str, Any] = {}
        self.framework: dict[str, Any] = {}
        self.logged: dict[Where, dict[str, Any]] = {}


class _SealedRow:
    """A row that is complete but for what is still on its way from the device or the ranks."""

    def __init__(self, number: int, open_row: _OpenRow, values: dict[str, Any], origins: dict[str, str]) -> None:
        self.number = number
        self.tier = open_row.where.tier
        self.step = open_row.step
        self.time = open_row.time
        self.origins = origins
        tensors: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(value, (int, float)):
                self.values[key] = value
            elif not isinstance(value, list) or value:
                tensors[key] = value
        self.transfer: Transfer | None = Transfer(tensors) if tensors else None
        self.order = [key for key in values if key in self.values or key in tensors]
        self.measured = open_row.by_step
        self.posted = False


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
        errors: how many errors TrackKit has survived in this run.
        status: how the training ended, or `running`.
    """

    def __init__(
        self, callbacks: Sequence[Callback], sinks: Sequence[Sink], exchange: Exchange, names: Names | None = None
    ) -> None:
        self._callbacks = list(callbacks)
        self._listening: dict[str, list[Callback]] = {}
        self._sinks = list(sinks)
        self._dropped: list[Sink] = []
        self._exchange = exchange
        self._names = names or Names()
        self._reduce = {key: how for callback in callbacks for key, how in callback.REDUCE.items()}
        self._window = Window()
        self._open: _OpenRow | None = None
        self._waiting: deque[_SealedRow] = deque()
        self._rows = 0
        self._owes_row = self._captured = self._fresh = False
        self.position: Callable[[], Moment] | None = None
        self.hold: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        self._draining = False
        self._more: dict[str, Any] = {}
        self._told: set[str] = set()
        self._renames: Mapping[str, Any] = {}
        self.errors = 0
        self.status: Status = "running"

    # -- the life of a run ---------------------------------------------------------------------------------------

    def start(self, info: RunInfo) -> None:
        """Opens the sinks: local first."""
        self._each_sink("open", lambda sink: sink.open(info))
        self._each("start", lambda callback: callback.start(info))
        if info.earlier is not None:
            for row in info.earlier.rows if info.step is None else info.earlier.up_to(info.step):
                self._each("emitted", lambda callback, row=row: callback.emitted(row))  # type: ignore[misc]
        self._window = Window()

    def restart(self, info: RunInfo) -> None:
        """Training begins in a run that an evaluation has opened, or begins anew."""
        self.seal()
        self._each_sink("config", lambda sink: sink.config(info.config))
        self._each("start", lambda callback: callback.start(info))
        self._window = Window()

    def gradients(self, gradients: Gradients) -> None:
        """Gradients are present on a step that may make a row."""
        if self._captured and not self._fresh:
            self._forget()
        self._fresh = self._captured = True
        self._each("gradients", lambda callback: callback.gradients(gradients))

    def batch(
        self,
        loss: torch.Tensor | None = None,
        samples: int = 0,
        tokens: int = 0,
        data_s: float = 0.0,
        steps: int = 0,
    ) -> None:
        """A batch was processed.

        Args:
            loss: the batch's, undivided by accumulation: a detached scalar tensor that nobody else will overwrite.
            samples, tokens: in this batch, over all ranks; 0 where unknown.
            data_s: seconds spent waiting for its data.
            steps: optimizer steps taken on it and the batches since the last one; 0 where gradients accumulate.
        """
        if self._open is not None:
            self.seal()
        elif self._waiting:
            self._drain()
        self._window.add(loss, samples, tokens, data_s, steps)
        if steps:
            self._owes_row = True
            if self._captured and not self._fresh:
                self._forget()
            self._fresh = False

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
            self._open = _OpenRow(where, step, _axes(where, step, epoch))
        values = self._numbers(values)
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
            values, origins = self._resolve(open_row)
            if len(values) > len(open_row.axes):
                self._waiting.append(_SealedRow(self._rows, open_row, values, origins))
                self._rows += 1
            self._drain()

    def flush(self) -> None:
        """Emits the rows sealed so far, once their values are in: waits for the device, and a moment for the ranks."""
        if self._waiting:
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
        self._each("ended", lambda callback: callback.ended())
        self.summarise()

    def last_row(self) -> None:
        """The last step makes a row, unless it has one."""
        if self.position is None:
            return
        try:
            moment = self.position()
            if self._owes_row:
                self.row(moment)
        except Exception as error:
            self.fault("the last step's row", error)

    def note(self, columns: Mapping[str, Any]) -> None:
        """Summary columns that the framework itself gives."""
        self._more.update(columns)

    def summarise(self) -> None:
        """Writes the summary columns as they are now."""
        self.seal()
        values: dict[str, Any] = {}
        self._each("final", lambda callback: values.update(callback.final()))
        values.update(self._more)
        finite = {key: value for key, value in values.items() if not isinstance(value, float) or math.isfinite(value)}
        finite["final/status"] = self.status
        finite["final/tracker_errors"] = errors = self.errors
        self._each_sink("summary", lambda sink: sink.summary(finite))
        if self.errors != errors:
            self._each_sink("summary", lambda sink: sink.summary({"final/tracker_errors": self.errors}))

    def preempting(self) -> None:
        """The machine is being taken away; the run may be requeued."""
        self._each_sink("preempting", lambda sink: sink.preempting())

    def close(self, exit_code: int = 0) -> None:
        """No more reports: finishes the run in every sink."""
        try:
            self.seal()
            self._drain(END_WAIT_S)
        except Exception as error:
            self.fault("the last rows", error)
        self._exchange.close()
        errors = self.errors
        self._each_sink("close", lambda sink: sink.close(exit_code))
        if self.errors != errors:
            self._each_sink("summary", lambda sink: sink.summary({"final/tracker_errors": self.errors}))
        # A sink that was switched off may still hold a run or a file open.
        for sink in self._dropped:
            with contextlib.suppress(Exception):
                sink.close(exit_code)
        self._sinks, self._dropped = [], []

    def fault(self, where: str, error: BaseException) -> None:
        """Something of TrackKit's failed: counted; its traceback is logged the first time."""
        self.errors += 1
        if where not in self._told:
            self._told.add(where)
            logger.error("%s failed and is switched off; training goes on", where, exc_info=error)

    # -- rows ----------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._captured = False
        self._each("forget", lambda callback: callback.forget())

    def _settle(self) -> None:
        if self._open is not None:
            self.seal()
        elif self._waiting:
            self._drain()

    def _open_batch_row(self, moment: Moment) -> None:
        axes = _axes(BATCH, moment.step, moment.epoch)
        if moment.total_steps is not None:
            axes["batch/iter_num"] = moment.total_steps
        self._owes_row = False
        row = self._open = _OpenRow(BATCH, moment.step, axes)
        row.by_step = True
        window, self._window = self._window, Window()
        self._captured = False
        self._each("row", lambda callback: row.measured.update(callback.row(moment, window)))

    def _resolve(self, row: _OpenRow) -> tuple[dict[str, Any], dict[str, str]]:
        values: dict[str, Any] = {**row.axes, **row.measured, **row.framework}
        self._names.claim([*row.axes, *values], row.where)
        origins: dict[str, str] = {}
        for where, logged in row.logged.items():
            for name, key in self._names.resolve(logged, where).items():
                values[key] = logged[name]
                origins[key] = name
        for notice in self._names.notices():
            logger.warning(notice)
        renames = self._names.renames
        if renames != self._renames:
            self._renames = renames
            self._each_sink("config", lambda sink: sink.config({"trackkit/renames": renames}))
        return values, origins

    def _drain(self, wait_s: float = 0.0) -> None:
        """Emits, in order, the rows whose values are in; where too many wait, the oldest goes without its late ones."""
        # A signal's handler that saves a checkpoint may come in between: what it would emit follows at once.
        if self._draining:
            return
        self._draining = True
        try:
            with self.hold():
                self._emit_waiting(wait_s)
        finally:
            self._draining = False

    def _emit_waiting(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while self._waiting:
            row = self._waiting[0]
            pressed = len(self._waiting) > MAX_WAITING
            if row.transfer is not None and not (row.transfer.ready or wait_s):
                if not pressed:
                    return
                row.transfer = None
            if not row.posted:
                self._arrive(row)
            if not pressed and not self._exchange.ready(row.number):
                if not wait_s:
                    return
                self._exchange.wait(row.number, max(0.0, deadline - time.monotonic()))
            self._waiting.popleft()
            self._emit(row)

    def _arrive(self, row: _SealedRow) -> None:
        """The row's values have reached the host: they are this rank's record."""
        row.posted = True
        if row.transfer is not None:
            arrived = dict(row.transfer.values())
            row.values = {
                key: row.values[key] if key in row.values else _settled(key, arrived[key]) for key in row.order
            }
            row.transfer = None
        if not row.measured:
            return
        self._each("finish", lambda callback: callback.finish(row.values))
        if any(key[0] == "_" for key in row.values):
            row.values = {key: value for key, value in row.values.items() if key[0] != "_"}
        try:
            self._exchange.post(row.number, row.step, row.values)
        except Exception as error:
            self.fault("the exchange between ranks", error)
            self._exchange = Exchange()

    def _emit(self, sealed: _SealedRow) -> None:
        records = self._exchange.take(sealed.number)
        for key, how in self._reduce.items():
            found = [record[key] for record in records if key in record]
            if len(found) > 1 and key in sealed.values:
                sealed.values[key] = _reduce(how, found)
        row = Row(sealed.number, sealed.tier, sealed.step, sealed.time, sealed.values, sealed.origins)
        self._each_sink("write", lambda sink: sink.write(row))
        self._each("emitted", lambda callback: callback.emitted(row))

    def _numbers(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that are numbers; of the others, None is passed over and the rest is told once."""
        kept: dict[str, Any] = {}
        for name, value in values.items():
            number = as_number(value)
            if number is not None:
                kept[str(name)] = number
            elif value is not None and name not in self._told:
                self._told.add(name)
                logger.warning("a metric must be a number; '%s' is a %s and is left out", name, type(value).__name__)
        return kept

    # -- isolation -----------------------------------------------------------------------------------------------

    def _each(self, what: str, call: Callable[[Callback], object]) -> None:
        listening = self._listening.get(what)
        if listening is None:
            listening = [each for each in self._callbacks if getattr(type(each), what) is not getattr(Callback, what)]
            self._listening[what] = listening
        for callback in listening:
            try:
                call(callback)
            except Exception as error:
                self._callbacks.remove(callback)
                self._listening = {}
                self.fault(f"callback '{type(callback).__name__}' ({what})", error)

    def _each_sink(self, what: str, call: Callable[[Sink], object]) -> None:
        for sink in tuple(self._sinks):
            try:
                call(sink)
            except Exception as error:
                if isinstance(error, sink.FATAL):
                    raise
                self._sinks.remove(sink)
                self._dropped.append(sink)
                self.fault(f"sink '{type(sink).__name__}' ({what})", error)


def as_number(value: Any) -> Any:
    """A Python number, or a tensor of one element left as it is; None for anything else."""
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float):
        return float(value)
    numel = getattr(value, "numel", None)
    if callable(numel) and hasattr(value, "detach"):
        return value if numel() == 1 else None
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "size", 0) == 1 and getattr(value, "dtype", None) is not None:
        return as_number(item())
    return None


def _axes(where: Where, step: int, epoch: float | None) -> dict[str, float | int]:
    axes: dict[str, float | int] = {f"{where.tier}/step": step}
    if epoch is not None:
        axes[f"{where.tier}/epoch"] = epoch
    return axes


def _settled(key: str, value: Any) -> Any:
    """A list of values stands for its mean, but for those that only `finish` sees."""
    return sum(value) / len(value) if isinstance(value, list) and key[0] != "_" else value


def _reduce(how: str, values: list[float]) -> float:
    if how == "mean":
        return sum(values) / len(values)
    if how == "max":
        return max(values)
    return math.sqrt(sum(values)) if how == "root_sum" else sum(values)
