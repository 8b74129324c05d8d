"""One run, from its start until it is closed, whichever way the process ends."""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from trackkit.checkpoints.parents import Parent, parent_config, take_waiting
from trackkit.engine.ranks import Exchange
from trackkit.engine.run_info import RunInfo, Status
from trackkit.engine.summary import best_key
from trackkit.engine.tracker import Tracker
from trackkit.local_log.reader import last_step
from trackkit.notices import ensure_heard, first_time, logger, say_once
from trackkit.record.run_config import flatten, recorded
from trackkit.session.console import NullConsole
from trackkit.session.last_words import LAST_WORDS, error_line, error_text, write_last_words
from trackkit.session.resume import checkpoint_fields
from trackkit.session.signals import Termination
from trackkit.settings.unused import say_unused, unused_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trackkit.engine.run_info import Start
    from trackkit.engine.sink import Sink

Phase = Literal["evaluating", "fitting", "fitted"]

# W&B's exit code for Ctrl-C.
CTRL_C = 255
# A shell's exit code for a process ended by SIGTERM.
SIGTERM_CODE = 143
# Before multiprocessing's own, which close queues (10) and wait for pools (15).
_CLOSE_FIRST = 100

_open_sessions: list[Session] = []
if hasattr(os, "register_at_fork"):
    # A forked process must not end the runs of its parent.
    os.register_at_fork(after_in_child=_open_sessions.clear)


class Session:
    """One run of one process.

    Args:
        tracker: the engine.
        info: the run's description.
        phase: see below.
        sinks: where the rows go; none on ranks that don't write.
        project: of the run.
        exchange: carries values between ranks.
        console: records what the program prints.

    Attributes:
        tracker, info, project, console: see above.
        first_warning: returns what the digest of a run folder, with a status, warns of first; set by the kit.
        phase: `evaluating` before any fit, `fitting`, `fitted`.
        exit_code: reported when the run is closed.
        unreported: status of a fit that reports neither its end nor an error.
    """

    def __init__(
        self,
        tracker: Tracker,
        info: RunInfo,
        phase: Phase,
        sinks: Sequence[Sink],
        project: str,
        exchange: Exchange,
        console: NullConsole,
    ) -> None:
        self.tracker = tracker
        self._exchange = exchange
        self.console = console
        self._error: BaseException | None = None
        self._failed, self._failure, self._trained = False, "", False
        self.project = project
        self.info = info
        self.phase: Phase = phase
        self.exit_code = 0
        self.unreported: Status = "failed"
        self.first_warning: Callable[[Path, str], str] = lambda folder, status: ""
        self._sinks = sinks
        self._parents: list[Parent] = []
        self._preempted = self._rank_died = False
        self._termination = Termination(self._on_sigterm)
        tracker.hold = self._termination.held
        if phase == "fitting":
            self._termination.install()

    @property
    def run(self) -> Any:
        """The first backend's run object, such as W&B's; None on ranks that don't write."""
        return next((sink.run for sink in self._sinks if sink.run is not None), None)

    def checkpoint_fields(self, counted: bool = False) -> dict[str, Any]:
        """Returns what a checkpoint keeps, so that a training resumed from it resumes this run.

        Args:
            counted: whether to include samples and tokens: a framework's checkpoints may count them.
        """
        seen = self.tracker.seen if counted else None
        return checkpoint_fields(self.info.run_id, self.project, seen)

    def start(self) -> None:
        """Opens the sinks, and makes sure that the run is closed at exit."""
        self.console.listen()
        try:
            self.tracker.start(self.info)
        except BaseException:
            self.console.close()
            raise
        self.console.start()
        self._say(self.tracker.unused())
        _open_sessions.append(self)
        self._use_waiting()
        # Registered after wandb.init, so that it runs before W&B's own exit handler.
        atexit.register(self.close)
        # A child of multiprocessing ends by os._exit, after its finalizers and without exit handlers.
        self._finalizer = multiprocessing.util.Finalize(None, self.close, exitpriority=_CLOSE_FIRST)

    def log(self, values: Mapping[str, Any]) -> bool:
        """Passes on what the program logs. Returns whether this process records a training now."""
        try:
            # Parts of the loss are averaged over the ranks.
            return self.tracker.log(values) and (bool(self._sinks) or all(name.startswith("loss/") for name in values))
        except Exception as error:  # noqa: BLE001 -- counted
            self.tracker.faults.add("trackkit.log", error)
            return True

    def use(self, parent: Parent) -> None:
        """Records a checkpoint that the program has loaded, unless this run itself has saved it."""
        if parent.run_id == self.info.run_id or parent in self._parents:
            return
        self._parents.append(parent)
        try:
            self.tracker.used(parent, recorded(parent_config(self._parents)))
        except Exception as error:  # noqa: BLE001 -- counted
            self.tracker.faults.add("the loaded checkpoint", error)

    def _use_waiting(self) -> None:
        if self.phase == "fitting":
            for parent in take_waiting():
                self.use(parent)

    def join_fit(self, start: Start) -> None:
        """Continues with a fit in a run without a step: an evaluation opened it, or the fit starts again."""
        self.phase = "fitting"
        self._termination.install()
        samples, tokens = start.seen()
        self.info = replace(
            self.info,
            config={**self.info.config, **recorded({**start.config, **flatten("hparams", start.hparams)})},
            start=replace(start, samples=samples, tokens=tokens),
        )
        self.tracker.faults.left_out(start.faults)
        self.tracker.restart(self.info)
        self._use_waiting()

    def end(self, status: Status, exit_code: int | None = None, error: BaseException | None = None) -> None:
        """Ends the fit or the evaluation; the run stays open for evaluations.

        Args:
            status: how it ended.
            exit_code: default 1 if it failed or was preempted, else 0.
            error: what ended it, if it failed.
        """
        if self._preempted and status in ("failed", "stopped"):
            status, exit_code = "preempted", SIGTERM_CODE
        elif self._rank_died and status == "preempted":
            status = "failed"
        fits, self.phase = self.phase == "fitting", "fitted"
        self.exit_code = exit_code if exit_code is not None else int(status in ("failed", "preempted"))
        self._trained = self._trained or fits
        with self._termination.held():
            if fits:
                self._note_error(status, error)
            self.console.drain()
            self.tracker.end(status)
        self._termination.remove()
        if multiprocessing.current_process().daemon:
            # The worker of a pool, which its parent ends by SIGTERM.
            self.close()

    def _note_error(self, status: Status, error: BaseException | None) -> None:
        """Adds `final/error`; empties it if an earlier attempt failed and this one did not."""
        self._failed, self._error, self._failure = status == "failed", None, ""
        if self._failed and error is not None:
            self._error, self._failure = error, error_line(error)
            self._exchange.publish("error", self._failure)
        elif self._failed and self._sinks:
            self._failure = self._exchange.published("error") or ""
        if self._failure or (self.info.earlier is not None and self.info.earlier.summary.get("final/error")):
            self.tracker.note({"final/error": self._failure})

    def evaluated(self) -> None:
        """Ends an evaluation outside of a fit; the status of the run's last fit stays."""
        if self.phase == "fitted":
            self.tracker.summarise()
        elif self.phase == "evaluating":
            status, self.exit_code = self._earlier_end()
            self.tracker.end(status)

    def _earlier_end(self) -> tuple[Status, int]:
        """Returns status and exit code of the last fit in another process; finished if there was none."""
        earlier = self.info.earlier
        return (earlier.fit_ended() if earlier is not None else None) or ("finished", 0)

    def _on_sigterm(self, ends: bool) -> None:
        """Prepares for the end of the job.

        Args:
            ends: whether the signal ends the process at once; otherwise the program's own handler decides.
        """
        if self.phase != "fitting":
            return
        if self._exchange.preempted():
            self._preempted = True
            self.tracker.preempting()
        else:
            self._rank_died = True
        if ends:
            self.close()
        else:
            # A SIGKILL may follow at any moment.
            self.tracker.flush()
            self.console.drain()

    def finish(self) -> None:
        """Ends a fit that has come to its end, or that the exception in flight ends, and closes the run."""
        if self.phase == "fitting":
            self._end_by(_in_flight(), "finished")
        self.close()

    def _end_by(self, error: BaseException | None, status: Status) -> None:
        """Ends the fit: with `status`, unless an error ends it."""
        if isinstance(error, KeyboardInterrupt):
            self.end("stopped", CTRL_C, error)
        else:
            self.end(status if error is None else "failed", None, error)

    def close(self) -> None:
        """Closes the run. A fit that did not report its end was stopped by Ctrl-C, failed, or is `unreported`."""
        if self not in _open_sessions:
            return
        _open_sessions.remove(self)
        atexit.unregister(self.close)
        self._finalizer.cancel()
        with self._termination.held():
            self._close()
        self._termination.remove()

    def _close(self) -> None:
        try:
            if self.phase == "fitting":
                self._end_by(getattr(sys, "last_value", None) or _in_flight(), self.unreported)
            elif self.phase == "evaluating":
                self.end(*self._earlier_end())
        except Exception as error:  # noqa: BLE001 -- counted
            self.tracker.faults.add("the end of the run", error)
        try:
            self._close_console()
        except Exception as error:  # noqa: BLE001 -- counted
            self.tracker.faults.add("the last words", error)
        self.tracker.close(self.exit_code)

    def _say(self, unused: Mapping[str, str]) -> None:
        # Only ranks that write have sinks.
        for setting, why in unused.items() if self._sinks else ():
            say_unused(setting, why)

    def _sum_up(self) -> None:
        """Says in at most four lines how the training ended: status, monitored metric, warnings, where the run is."""
        columns = self.tracker.columns
        if self._failed:
            # An error that the program has caught is not known here.
            logger.warning("Training %s. Details are in '%s'.", self._failed_words(), self.info.folder / LAST_WORDS)
        elif self._trained:
            took = _duration(columns.get("final/duration_h", 0.0))
            steps = columns.get("final/steps", "" if self.info.start.logs_only else 0)
            after = f" after {steps} steps" if steps != "" else ""
            logger.info("Run '%s': %s%s in %s.", self.info.name, self.tracker.status, after, took)
        best = best_key(columns)
        if best and self._trained:
            name, last = best.removeprefix("final/best/"), columns.get(best.replace("final/best/", "final/"))
            text = "%s: last %.5g, best %.5g at step %d."
            logger.info(text, name, last, columns[best], columns[f"{best}_step"])
        unused = {**self.tracker.unused(), **self.tracker.unused_synonyms()}
        texts = (unused_text(setting, why) for setting, why in unused.items())
        warnings = [*self.tracker.warnings(), *(text for text in texts if first_time(f"{text}."))]
        # Its imports would make Python forget that a Ctrl-C ends the process, and time is short in a signal handler.
        if self._trained and self.exit_code not in (CTRL_C, SIGTERM_CODE):
            found = self.first_warning(self.info.folder, self.tracker.status)
            warnings += [found.rstrip(".")] if found else []
        if warnings:
            logger.warning("%s. Look in '%s'.", "; ".join(warnings), self.info.folder)
        if self._trained:
            place = next((f" at {sink.place}, or" for sink in self._sinks if sink.place), "")
            logger.info("View it%s with `trackkit show|report|sync %s`.", place, self.info.folder)

    def _failed_words(self) -> str:
        step = last_step(self.info.folder)
        after = f" after step {step}" if step is not None else ""
        return f"failed{after}{f': {self._failure}' if self._failure else ''}"

    def _close_console(self) -> None:
        """Closes the console after TrackKit's own lines about the end."""
        text = error_text(self._error) if self._error is not None else ""
        folder, words = self.info.folder, ""
        if self._sinks:
            words = self._failed_words() if self._failed else ""
            self._sum_up()
        self.console.close(text)
        if words:
            write_last_words(folder, f"Run {self.info.run_id} {words}", text, self.console.recent)


def _in_flight() -> BaseException | None:
    """Returns the exception that ends a child of multiprocessing, or whose handler closes the run; None without one."""
    error = sys.exc_info()[1]
    return None if isinstance(error, SystemExit) and not error.code else error


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


def log(values: Mapping[str, Any]) -> None:
    """Logs values from anywhere in a training, whichever framework trains.

    Does nothing, and says so once, if no training is in progress in this process, or if another rank writes the run.

    Args:
        values: name to value. A number, or a tensor of one element, becomes `batch/<name>` of the row of the step being
            taken, or of the next row if that step makes none. A part of the loss, `loss/<name>`, is averaged over all
            batches since the last row, and over ranks, as `batch/loss/<name>`; in an evaluation it is ignored. A W&B
            type such as `wandb.Image`, `wandb.Table` or `wandb.Audio`, a figure of Matplotlib or Plotly, a PIL image, a
            pandas table or a text becomes `samples/<name>` at once: tables and texts in the run's folder and in W&B,
            the rest in W&B only.

    Raises:
        TypeError: `values` is not a dictionary with strings as keys.
    """
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise TypeError(f"trackkit.log takes a dictionary with strings as keys; got {values!r}")
    fitting = [each for each in reversed(_open_sessions) if each.phase == "fitting"][:1]
    if not any(each.log(values) for each in fitting):
        ensure_heard()
        say_once("trackkit.log recorded nothing: no training is in progress here, or another rank writes its run.")


def source(name: str) -> None:
    """Says which data source the batch that is being trained on comes from, before its loss is returned.

    The losses of each source are averaged over its batches since the last row, and over ranks, as
    `batch/loss/source/<name>`. Under Lightning and Hugging Face, a batch that is a dictionary may have a field `source`
    instead. Ignored in an evaluation, and where no training is in progress.

    Args:
        name: of the source.

    Raises:
        TypeError: `name` is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"trackkit.source takes the name of a data source, a string; got {name!r}")
    for session in [each for each in reversed(_open_sessions) if each.phase == "fitting"][:1]:
        if not session.tracker.evaluates_now:
            session.tracker.source = name


def open_sessions() -> tuple[Session, ...]:
    """Returns the runs of this process that are not closed, oldest first."""
    return tuple(_open_sessions)
