"""Records what a script logs: the values' names and the given step say to which row they belong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from trackkit.engine.records import Moment
from trackkit.engine.rows import is_number
from trackkit.schema.prefixes import event_of, position_of

if TYPE_CHECKING:
    from trackkit.engine.run_info import Start
    from trackkit.engine.tracker import Tracker
    from trackkit.schema.keys import Where
    from trackkit.session.session import Session


class Measures(Protocol):
    """What a tracker uses of `trackkit.accelerate`.

    Attributes:
        evaluated: samples of the data that were read last without training on them; None if unknown.
    """

    evaluated: int | None

    def start(self, start: Start) -> Start:
        """Returns `start` with what the accelerator knows."""
        ...

    def begins(self, session: Session) -> None:
        """Measures the run of `session` from here on."""

    def moment(self) -> Moment:
        """Returns where the training stands."""
        ...

    def logs(self) -> None:
        """Makes the row of the step just taken, which the script logs, or after which it ends."""

    def ends(self) -> None:
        """Stops measuring; the accelerator may initialize its trackers again."""


class Logged:
    """Records what one run logs.

    A step is, in this order: that of the training, if it is measured; `step` among the values; the argument `step`.
    Without any, values stay at the last step until a name repeats, as it does in the next step of a loop.

    Args:
        tracker: of the run.
        measures: of the training; None if only its logs are known.
    """

    def __init__(self, tracker: Tracker, measures: Measures | None) -> None:
        self._tracker, self._measures = tracker, measures
        self._step = self._at_step = 0
        self._epoch: float | None = None
        self._seen: set[tuple[Where, str]] = set()

    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        """Records one call of `Accelerator.log`."""
        inner, epoch = position_of(values)
        events = event_of(values)
        names = {(where, name) for where, named in events for name, value in named.items() if is_number(value)}
        at = self._at(inner if inner is not None else step, names)
        # Accelerate's own examples give the epoch as the step: no step then says how long one takes.
        if self._measures is None and at > self._step and (inner is not None or step is None or step != epoch):
            self._tracker.batch(data_s=None, steps=at - self._step)
            self._step, self._epoch = at, epoch
            self._tracker.row(Moment(at, epoch))
        if any(where.tier == "epoch" for where, _ in names & self._seen):
            # A row of their own, not in place of the values before.
            self._tracker.seal()
        self._seen |= names
        for where, named in events:
            numbers = {name: value for name, value in named.items() if is_number(value)}
            samples = {name: value for name, value in named.items() if name not in numbers}
            if numbers:
                self._report(where, numbers, at, epoch)
            if samples:
                self._tracker.samples(samples, at)

    def moment(self) -> Moment:
        """Returns where the training stands, by its logs."""
        return Moment(self._step, self._epoch)

    def _report(self, where: Where, numbers: Mapping[str, Any], at: int, epoch: float | None) -> None:
        if where.tier == "epoch":
            if self._measures is not None:
                measured = self._measures.moment().epoch
                epoch = epoch if measured is None else measured
                if where.split in ("val", "test") and (samples := self._measures.evaluated) is not None:
                    self._tracker.evaluates(where, samples)
        elif self._measures is not None:
            self._measures.logs()
        self._tracker.report(numbers, where, at, epoch)

    def _at(self, given: int | None, names: set[tuple[Where, str]]) -> int:
        """Returns the step of values; forgets the names that were logged at an earlier one."""
        if self._measures is not None:
            at = self._measures.moment().step
        elif given is not None:
            at = int(given)
        else:
            new = names if not self._step else names & self._seen
            at = self._step + any(where.tier == "batch" for where, _ in new)
        if at != self._at_step:
            self._at_step = at
            self._seen.clear()
        return at
