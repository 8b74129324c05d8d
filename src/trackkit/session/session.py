"""One run from its start to its end: the tracker with its sinks, and what the process owes them at exit."""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from trackkit.engine.ranks import Exchange
from trackkit.engine.run_info import RunInfo, Status
from trackkit.engine.tracker import Tracker
from trackkit.record.run_config import flatten
from trackkit.session import resume
from trackkit.session.signals import Termination

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackkit.engine.run_info import Start
    from trackkit.engine.sink import Sink

Phase = Literal["evaluating", "fitting", "fitted"]

# W&B's own exit code for Ctrl-C.
CTRL_C = 255
# What a shell reports of a process that SIGTERM ended.
SIGTERM_CODE = 143

_open_sessions: list[Session] = []
# A forked process must not end the runs of its parent.
os.register_at_fork(after_in_child=_open_sessions.clear)


class Session:
    """One run of one process.

    Attributes:
        tracker: the engine.
        phase: `evaluating` before any fit, `fitting`, `fitted`.
        info: what the run is.
        project: that it belongs to.
    """

    def __init__(
        self,
        tracker: Tracker,
        info: RunInfo,
        phase: Phase,
        sinks: Sequence[Sink],
        project: str,
        exchange: Exchange,
    ) -> None:
        self.tracker = tracker
        self._exchange = exchange
        self.project = project
        self.info = info
        self.phase: Phase = phase
        self.exit_code = 0
        self._sinks = sinks
        self._terminated = self._bereft = False
        self._termination = Termination(self._on_sigterm)
        tracker.hold = self._termination.held
        if phase == "fitting":
            self._termination.install()

    @property
    def run(self) -> Any:
        """The first backend's own run object, such as W&B's; None on ranks that don't write."""
        return next((sink.run for sink in self._sinks if sink.run is not None), None)

    def checkpoint_fields(self, counted: bool = False) -> dict[str, Any]:
        """What a checkpoint carries, so that a resumed training goes on in this run.

        Args:
            counted: whether samples and tokens are among it: a framework may carry counters of its own.
        """
        seen = self.tracker.seen if counted else None
        return resume.checkpoint_fields(self.info.run_id, self.info.root, self.project, seen)

    def begin(self) -> None:
        """The sinks open. From here on the process owes the run its end."""
        self.tracker.start(self.info)
        _open_sessions.append(self)
        # After wandb.init, so that this runs before W&B's own exit handler.
        atexit.register(self.close)

    def join_fit(self, start: Start) -> None:
        """A fit after an evaluation of its own: the same run."""
        self.phase = "fitting"
        self._termination.install()
        samples, tokens = start.seen()
        self.info = replace(
            self.info,
            config={**self.info.config, **start.config, **flatten("hparams", start.hparams)},
            start=replace(start, samples=samples, tokens=tokens),
        )
        self.tracker.faults.left_out(start.faults)
        self.tracker.restart(self.info)

    def end(self, status: Status, exit_code: int | None = None) -> None:
        """The fit, or the evaluation, is over; the run stays open for evaluations."""
        if self._terminated and status in ("failed", "stopped"):
            status, exit_code = "preempted", SIGTERM_CODE
        elif self._bereft and status == "preempted":
            status = "failed"
        self.phase = "fitted"
        self.exit_code = exit_code if exit_code is not None else int(status in ("failed", "preempted"))
        with self._termination.held():
            self.tracker.end(status)
        self._termination.remove()

    def evaluated(self) -> None:
        """An evaluation outside of a fit is over. What the run's last fit has come to stays so."""
        if self.phase == "fitted":
            self.tracker.summarise()
        elif self.phase == "evaluating":
            status, self.exit_code = self._stands()
            self.tracker.end(status)

    def _stands(self) -> tuple[Status, int]:
        """How the run stands before any fit of this process: as an earlier one has left it."""
        earlier = self.info.earlier
        return (earlier.fit_ended() if earlier is not None else None) or ("finished", 0)

    def _on_sigterm(self, ends: bool) -> None:
        """The job is about to be taken down: at once, or, where somebody handles the signal, when they say so."""
        if self.phase != "fitting":
            return
        if self._exchange.preempted():
            self._terminated = True
            self.tracker.preempting()
        else:
            self._bereft = True
        if ends:
            self.close()
        else:
            # A SIGKILL may follow before anything else happens.
            self.tracker.flush()

    def close(self) -> None:
        """The run is over. A fit whose end never came has failed, or was stopped by Ctrl-C."""
        if self not in _open_sessions:
            return
        _open_sessions.remove(self)
        atexit.unregister(self.close)
        with self._termination.held():
            self._close()
        self._termination.remove()

    def _close(self) -> None:
        try:
            if self.phase == "fitting":
                interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
                self.end("stopped" if interrupted else "failed", CTRL_C if interrupted else 1)
            elif self.phase == "evaluating":
                self.end(*self._stands())
        except Exception as error:
            self.tracker.faults.add("the end of the run", error)
        self.tracker.close(self.exit_code)


def open_sessions() -> tuple[Session, ...]:
    """The runs of this process that are not closed, oldest first."""
    return tuple(_open_sessions)
