"""Many runs at once: filtered, sorted, grouped, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, overload

from trackkit.local_log.recorded import RecordedRun, frame
from trackkit.local_log.regular import ReadError
from trackkit.reading.columns import FACTS, columns, plain
from trackkit.reading.expression import Expression
from trackkit.reading.statistics import is_number
from trackkit.schema.goals import Goal, direction

if TYPE_CHECKING:
    import pandas

_SHOWN = ("id", "name", "status", "steps", "best")
_MOST = 20


class Runs(Sequence[RecordedRun]):
    """A sequence of runs. What filters and sorts it returns another one; rows are read only when they are asked for.

    A column is a fact such as `status` (see `reading.columns.FACTS`), a key of the config (`hparams/lr`), a result
    (`final/best/val/loss`), or an expression of them (`final/best/val/acc / final/cost_usd`; see
    `reading.expression`).

    Args:
        runs: the runs.
    """

    def __init__(self, runs: Iterable[RecordedRun]) -> None:
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, index: int) -> RecordedRun: ...

    @overload
    def __getitem__(self, index: slice) -> Runs: ...

    def __getitem__(self, index: int | slice) -> RecordedRun | Runs:
        return self._derived(range(len(self))[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[RecordedRun]:
        return iter(self._runs)

    def __repr__(self) -> str:
        shown = [f"  {run!r}" for run in self._runs[:_MOST]]
        more = [f"  ... and {len(self) - _MOST} more"] if len(self) > _MOST else []
        return "\n".join([f"{len(self)} run{'s' * (len(self) != 1)}", *shown, *more])

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: a table."""
        head = "".join(f"<th>{escape(name)}</th>" for name in _SHOWN)
        rows = (
            "".join(f"<td>{escape(plain(values.get(name)))}</td>" for name in _SHOWN) for values in self.table[:_MOST]
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        more = f"<p>... and {len(self) - _MOST} more</p>" if len(self) > _MOST else ""
        return f"<table><tr>{head}</tr>{body}</table>{more}"

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """Each run's columns that have a value."""
        return [columns(run) for run in self._runs]

    @cached_property
    def known(self) -> frozenset[str]:
        """Every column that a run has, and every fact."""
        return frozenset(FACTS).union(*self.table)

    def column(self, expression: str) -> list[Any]:
        """Returns the value of a column or an expression for each run; None where a run has none.

        Raises:
            ExpressionError: the text is no expression, or names an unknown column.
        """
        if expression in self.known:
            # Also a key that an expression can't name, such as one with spaces.
            return [values.get(expression) for values in self.table]
        evaluate = Expression(expression, self.known)
        return [evaluate(values) for values in self.table]

    def filter(self, expression: str) -> Runs:
        """Returns the runs for which an expression is true: `hparams/lr > 1e-4 and status == 'finished'`.

        Raises:
            ExpressionError: the text is no expression, or names an unknown column.
        """
        return self._derived(number for number, value in enumerate(self.column(expression)) if value)

    def sort(self, by: str, descending: bool = False) -> Runs:
        """Returns the runs sorted by a column or an expression; those without a value come last.

        Raises:
            ExpressionError: the text is no expression, or names an unknown column.
        """
        return self._derived(order(self.column(by), descending))

    def best(self, metric: str, goal: Goal | None = None) -> RecordedRun:
        """Returns the run with the best value of a metric.

        Args:
            metric: `val/loss` (each run's best, else its last value), or any column or expression.
            goal: `min` or `max`. Default: by the metric's name, as for `final/best`.

        Raises:
            ReadError: no run has a value, or the name does not say whether less or more is better.
            ExpressionError: the text is no expression, or names an unknown column.
        """
        best, sign = self.ranked(metric, goal)
        found = [(sign * value, number) for number, value in enumerate(best) if is_number(value)]
        if not found:
            raise ReadError(f"none of {len(self)} runs has a value of '{metric}'")
        return self._runs[min(found)[1]]

    def ranked(self, metric: str, goal: Goal | None = None) -> tuple[list[Any], int]:
        """Returns each run's value of a metric, as `best` takes it, and the sign that makes the best one the least."""
        goal = goal or direction(metric)
        if goal not in ("min", "max"):
            raise ReadError(f"'{metric}' does not say whether less or more is better: give goal='min' or goal='max'")
        tried = (f"final/best/{metric}", f"final/{metric}")
        known = [column for column in tried if column in self.known]
        if not known:
            return self.column(metric), 1 if goal == "min" else -1
        values = [next((row[name] for name in known if name in row), None) for row in self.table]
        return values, 1 if goal == "min" else -1

    def group(self, by: str) -> dict[Any, Runs]:
        """Returns the runs by the value of a column or an expression, in order of the values; None where one has none.

        By `tag`, a run is in the group of each of its tags.

        Raises:
            ExpressionError: the text is no expression, or names an unknown column.
        """
        each = by == "tag" and by not in self.known
        groups: dict[Any, list[int]] = {}
        for number, value in enumerate(self.column("tags" if each else by)):
            values = (value or [None]) if each and isinstance(value, list) else [value]
            for found in (tuple(value) if isinstance(value, list) else value for value in values):
                groups.setdefault(found if _is_hashable(found) else plain(found), []).append(number)
        names = list(groups)
        return {names[place]: self._derived(groups[names[place]]) for place in order(names)}

    def to_pandas(self) -> pandas.DataFrame:
        """Returns all columns as a table, one row per run.

        Raises:
            ReadError: pandas is not installed.
        """
        return frame(self.table)

    def _derived(self, numbers: Iterable[int]) -> Runs:
        """Returns some of these runs, with their columns as read already."""
        numbers = list(numbers)
        derived = Runs(self._runs[number] for number in numbers)
        # A column that only the others have is known all the same.
        derived.__dict__.update(table=[self.table[number] for number in numbers], known=self.known)
        return derived


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def order(values: Sequence[Any], descending: bool = False) -> list[int]:
    """Returns the places of values in their order: numbers before texts; None and NaN last, whatever the direction."""
    placed = [place for place, value in enumerate(values) if value is not None and value == value]
    rest = [place for place, value in enumerate(values) if value is None or value != value]
    found = sorted(placed, key=lambda place: _sort_key(values[place]))
    return [*(reversed(found) if descending else found), *rest]


def _sort_key(value: Any) -> tuple[bool, Any]:
    return (False, value) if isinstance(value, (int, float)) else (True, str(value))
