"""The engine: opens, fills, seals and emits rows. Knows no framework and no backend."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trackkit.engine import ranks
from trackkit.engine.callback import Callback
from trackkit.engine.faults import Faults, Group
from trackkit.engine.outbox import Sinks
from trackkit.engine.ranks import Exchange
from trackkit.engine.records import Checkpoint, Gradients, Line, Moment
from trackkit.engine.row_queue import RowQueue
from trackkit.engine.rows import OpenRow, is_number, numbers
from trackkit.engine.run_info import RunInfo, Status
from trackkit.engine.sink import Sink
from trackkit.engine.summary import Summary
from trackkit.engine.window import Window
from trackkit.notices import ensure_heard, say_once
from trackkit.schema.keys import BATCH, Where, sanitize
from trackkit.schema.names import Names

if TYPE_CHECKING:
    import torch

END_WAIT_S, FLUSH_S = 2.0, 0.5
# Each is a key of its own.
MAX_PARTS = 200
_PART = "loss/"


class Tracker:
    """One run, from `start` to `close`. An adapter calls it as the training goes.

    Args:
        callbacks: what is measured.
        sinks: where rows go; none on ranks that don't write.
        exchange: sends values to rank 0.
        names: how logged names become keys.

    Attributes:
        position: returns where the training stands, for a last row that no adapter announces; None outside of a fit.
        hold: context in which rows are made; delays a signal that would end the run.
        faults: the internal errors of this run.
        source: name of the data source of the batch that is being trained on; "" if it has none.
        evaluating: whether an evaluation may be running: no step is being taken.
        status: how the training ended, or `running`.
    """

    def __init__(
        self, callbacks: Sequence[Callback], sinks: Sequence[Sink], exchange: Exchange, names: Names | None = None
    ) -> None:
        self.faults = Faults()
        self._callbacks = Group(callbacks, Callback, self.faults)
        self._sinks = Sinks(sinks, self.faults)
        self._queue = RowQueue(self._callbacks, self._sinks, self.faults, exchange)
        self._summary = Summary(self._callbacks, self._sinks, self.faults)
        self._names = names or Names()
        self._renames: Mapping[str, Any] = {}
        self._refused: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._logged: dict[str, Any] = {}
        self._window = Window()
        self._open: OpenRow | None = None
        self._owes_row = self._captured = self._fresh = False
        self.source, self.evaluating = "", False
        self._part_keys: dict[str, str] = {}
        self.position: Callable[[], Moment] | None = None
        self.hold: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        self.status: Status = "running"

    def start(self, info: RunInfo) -> None:
        """Opens the sinks, and gives the callbacks the rows of the training so far."""
        self._sinks.call("open", info)
        self._callbacks.call("connect", self._sinks.uploads)
        self._callbacks.call("start", info)
        if info.earlier is not None:
            for row in info.earlier.up_to(info.start.step) if info.start.is_fit else info.earlier.up_to():
                self._callbacks.call("emitted", row)
        self._window = Window(info.start.samples, info.start.tokens)

    def restart(self, info: RunInfo) -> None:
        """Starts training in a run that an evaluation opened, or starts it again."""
        self.seal()
        self._sinks.call("config", info.config)
        self._callbacks.call("start", info)
        self._window = Window(info.start.samples, info.start.tokens)

    def gradients(self, gradients: Gradients) -> None:
        """Measures the gradients of a step that may make a row."""
        if self._captured and not self._fresh:
            self._forget()
        self._fresh = self._captured = True
        self._callbacks.call("gradients", gradients)

    def batch(
        self,
        loss: torch.Tensor | None = None,
        samples: int | None = 0,
        tokens: int = 0,
        data_s: float | None = 0.0,
        steps: int = 0,
    ) -> None:
        """Counts a batch that was processed.

        Args:
            loss: of the batch, undivided by accumulation: a detached scalar tensor that is not overwritten later.
            samples, tokens: in this batch, over all ranks; 0 if unknown. None: the samples can't be counted.
            data_s: seconds spent waiting for its data; None if unknown.
            steps: optimizer steps taken on it and the batches since the last one; 0 while gradients accumulate.
        """
        if self._open is not None or self._queue.rows:
            self._emit()
        if self.source and loss is not None:
            self.sourced(loss)
        self._window.add(loss, samples, tokens, data_s, steps)
        if steps:
            self._owes_row = True
            if self._captured and not self._fresh:
                self._forget()
            self._fresh = False

    @property
    def waits(self) -> bool:
        """Whether the next `batch` is waited for: a row may be emitted then, or the batch's source is known."""
        return self._open is not None or bool(self._queue.rows) or bool(self.source)

    @property
    def seen(self) -> tuple[int, int]:
        """Samples and tokens so far, over all ranks, including steps that have made no row yet."""
        return self._window.seen

    def average(self, values: Mapping[str, float | torch.Tensor]) -> None:
        """Adds values, by key, to their means until the next row; device scalars without reading them."""
        for key, value in values.items():
            self._window.average(key, value)

    def parts(self, values: Mapping[str, Any]) -> None:
        """Adds parts of a batch's loss, name to number or tensor of one element, to the means `batch/loss/<name>`."""
        for name, value in numbers(values, self._refused).items():
            if name not in self._part_keys:
                if len(self._part_keys) == MAX_PARTS:
                    ensure_heard()
                    say_once(f"Parts and sources of the loss have {MAX_PARTS} names; further ones are not recorded.")
                    continue
                self._part_keys[name] = f"batch/loss/{self._names.part(name)}"
            detached = value.detach().float().reshape(()) if hasattr(value, "detach") else value
            self._window.average(self._part_keys[name], detached)

    @property
    def evaluates_now(self) -> bool:
        """Whether an evaluation is running."""
        import torch

        return self.evaluating and not torch.is_grad_enabled()

    def sourced(self, loss: torch.Tensor) -> None:
        """Adds the loss of the batch that is from `source` to the mean `batch/loss/source/<name>`."""
        source, self.source = self.source, ""
        self.parts({f"source/{source}": loss})

    def skipped(self, flag: torch.Tensor | bool) -> None:
        """Counts a step that the gradient scaler may have skipped, by its found-inf flag."""
        self._window.skip(flag)

    def pause(self, what: str, seconds: float) -> None:
        """Leaves out `seconds` of wall time that went to `what` ("evaluation", "checkpoint")."""
        self._window.pause(seconds)
        self._callbacks.call("paused", what, seconds)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Records a checkpoint that the framework has just saved and not yet deleted. May be called from any thread."""
        # Signals arrive in the main thread only.
        in_main = threading.current_thread() is threading.main_thread()
        with self.hold() if in_main else contextlib.nullcontext():
            self._callbacks.call("checkpoint", checkpoint)
            self._sinks.checkpoint(checkpoint)

    def pushed(self, url: str, path: str = "") -> None:
        """Records the commit that a push to a model hub has made; see `Callback.pushed`."""
        self.note({"final/hub_url": url})
        self._callbacks.call("pushed", url, path)

    def used(self, parent: Any, config: Mapping[str, Any]) -> None:
        """Records a checkpoint of another run that the program has loaded.

        Args:
            parent: see `Callback.used`.
            config: what the run config says of it.
        """
        self.describe(config)
        self._callbacks.call("used", parent)

    def evaluates(self, where: Where, samples: int) -> None:
        """Records, once, the size of the set that an evaluation runs on."""
        key, name = f"data/{where.split}_samples", self._names.segment(where)
        key = f"{key}/{name}" if name else key
        if self._sizes.get(key) != samples:
            self._sizes[key] = samples
            self._sinks.call("config", {key: samples})

    def describe(self, config: Mapping[str, Any]) -> None:
        """Adds to the run's config: flat keys, secrets masked."""
        self._sinks.call("config", dict(config))

    def row(self, moment: Moment) -> None:
        """Opens the row of the step just taken."""
        self._emit()
        with self.hold():
            row = self._open = OpenRow.of_step(moment)
            window = self._window
            self._window = Window(window.samples_before + window.samples, window.tokens_before + window.tokens)
            self._owes_row = self._captured = False
            for values in self._callbacks.call("row", moment, window):
                row.measured.update(values)
            if self._logged:
                logged, self._logged = self._logged, {}
                row.reports.append((BATCH, logged))

    def log(self, values: Mapping[str, Any]) -> bool:
        """Records what the program logs with `trackkit.log`.

        Numbers go into the row of the step being taken or, if it makes none, into the next row; of several values of
        one name the last is recorded, and of `loss/<name>` the mean over all since the last row. Other values go to the
        sinks as `samples/<name>` at once.

        Returns:
            Whether a training is under way: otherwise nothing is recorded.
        """
        if self.position is None:
            return False
        samples = {name: value for name, value in values.items() if value is not None and not is_number(value)}
        rest = {name: value for name, value in values.items() if name not in samples}
        self._logged.update(self.log_parts(rest))
        if samples:
            self.samples(samples, self.position().step)
        return True

    def log_parts(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Adds numbers that a training logs as `loss/<name>` to the means of those parts, except in an evaluation.

        Returns:
            The other values.
        """
        if self.position is None:
            return dict(values)
        parts = {name: value for name, value in values.items() if name.startswith(_PART)}
        if parts and not self.evaluates_now:
            self.parts({name.removeprefix(_PART): value for name, value in parts.items()})
        return {name: value for name, value in values.items() if name not in parts}

    def samples(self, values: Mapping[str, Any], step: int) -> None:
        """Records pictures, tables and texts at once, as `samples/<name>`.

        Args:
            values: logged name to value.
            step: optimizer steps taken.
        """
        named = {f"samples/{sanitize(name.removeprefix('samples/'))}": value for name, value in values.items()}
        for kept in self._callbacks.call("samples", named):
            self._sinks.samples(kept, step)

    def report(
        self, values: Mapping[str, Any], where: Where, step: int, epoch: float | None = None, framework: bool = False
    ) -> None:
        """Adds what the framework or the user logged to the open row, or to a new one.

        Args:
            values: logged name to a number or a tensor of one element. With `framework`, key to value: what the
                framework itself measured, which replaces what TrackKit measures.
            where: the event.
            step: optimizer steps taken.
            epoch: epochs so far, fractional; None if unknown.
            framework: see `values`.

        Raises:
            SchemaError: a name of the row before, which this report seals, that `names: strict` refuses.
        """
        if self._open is not None and (self._open.where.tier != where.tier or self._open.step != step):
            self.seal()
        if self._open is None:
            self._open = OpenRow(where, step, epoch)
        elif epoch is not None:
            self._open.axes.setdefault(f"{where.tier}/epoch", epoch)
        self._open.reports.append((None if framework else where, dict(values)))

    def seal(self) -> None:
        """Ends the reports into the open row; it is emitted once its values are on the host.

        Raises:
            SchemaError: a name that `names: strict` refuses.
        """
        if self._open is None:
            return
        with self.hold():
            row, self._open = self._open, None
            if row.seal(self._names, self._refused):
                self._queue.add(row)
            self._queue.drain()
            self._report_renames()

    def last_row(self) -> None:
        """Opens the row of the last step, unless it has one."""
        if self.position is None:
            return
        try:
            moment = self.position()
            if self._owes_row:
                if self._captured and self._fresh:
                    # Of a step that was not completed.
                    self._forget()
                self.row(moment)
        except Exception as error:  # noqa: BLE001 -- counted
            self.faults.add("the last step's row", error)

    def flush(self) -> None:
        """Emits the rows sealed so far: waits for the device, and up to half a second for the ranks."""
        self._drain(FLUSH_S)

    def end(self, status: Status) -> None:
        """Ends the training with the last step's row and the summary. Evaluations may follow."""
        self.seal()
        self.last_row()
        self.position = None
        self.seal()
        self._drain(END_WAIT_S)
        self.status = status
        self._callbacks.call("ended")
        self.summarise()

    def note(self, columns: Mapping[str, Any]) -> None:
        """Adds summary columns that the framework itself measured."""
        self._summary.note(columns)

    def summarise(self) -> None:
        """Writes the summary columns as they are now."""
        self.seal()
        self._summary.write(self.status)

    @property
    def columns(self) -> Mapping[str, Any]:
        """The summary columns as they were written last."""
        return self._summary.written

    def unused(self) -> dict[str, str]:
        """Returns the options of callbacks that have no effect, as far as it is known yet, and why."""
        return {option: why for found in self._callbacks.call("unused") for option, why in found.items()}

    def warnings(self) -> list[str]:
        """Returns the warnings for the end of the run, each a sentence without its full stop."""
        errors = self.faults.count
        found = [warning for warning in self._callbacks.call("warning") if warning]
        self._summary.correct(errors)
        return found

    def unused_synonyms(self) -> dict[str, str]:
        """Returns the synonyms whose name was never logged, and why they have no effect."""
        return self._names.unused()

    def console(self, lines: Sequence[Line]) -> None:
        """Passes on lines that the program printed."""
        self._sinks.console(lines)

    def preempting(self) -> None:
        """Marks the run as preempted: its machine is being taken away, and it may be requeued."""
        self._sinks.call("preempting")

    def close(self, exit_code: int = 0) -> None:
        """Emits the last rows, and ends the run in every sink."""
        try:
            self.seal()
            self._drain(END_WAIT_S)
        except Exception as error:  # noqa: BLE001 -- counted
            self.faults.add("the last rows", error)
        self._queue.close()
        errors = self.faults.count
        self._callbacks.call("closing")
        self._summary.correct(errors)
        errors = self.faults.count
        self._sinks.call("close", exit_code)
        self._callbacks.call("closed")
        self._summary.correct(errors)
        self._sinks.release(exit_code)
        self.faults.sum_up()

    def _emit(self) -> None:
        """Seals the open row, and emits the rows that are complete."""
        if self._open is not None:
            self.seal()
        elif self._queue.rows:
            self._drain()

    def _drain(self, wait_s: float = 0.0) -> None:
        with self.hold():
            self._queue.drain(wait_s)

    def _forget(self) -> None:
        self._captured = False
        self._callbacks.call("forget")

    def _report_renames(self) -> None:
        for notice in self._names.notices():
            if ranks.current().writes:
                say_once(notice)
        renames = self._names.renames
        if renames != self._renames:
            self._renames = renames
            self._sinks.call("config", {"trackkit/renames": renames})
