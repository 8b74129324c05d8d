"""A recorded run as plain Python: what `trackkit.read_run` and `trackkit.runs` return."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.engine.attempts import counted
from trackkit.engine.records import Gap, Line, Row
from trackkit.errors import did_you_mean
from trackkit.local_log.console import console_name, read_console
from trackkit.local_log.regular import ReadError
from trackkit.local_log.samples import Sample, read_samples
from trackkit.schema.keys import axis_key

if TYPE_CHECKING:
    import pandas


def _nothing() -> tuple[Sequence[Row], Sequence[Gap]]:
    return (), ()


@dataclass(frozen=True, repr=False)
class RecordedRun:
    """A run as plain Python. Its rows are read when they are first asked for.

    Attributes:
        config: key to value.
        summary: the `final/*` columns; all columns of a run on a server.
        run: `run_id`, `name`, `status` (`running`, `finished`, `failed`, `stopped`, `preempted`; `damaged` if the run
            can't be read, with `error`), `started`, `ended` (Unix time, seconds) and more where known; a run whose
            process has died is `failed`.
        folder: the run folder; None for a run on a server.
        load: reads the rows and the gaps.
    """

    config: dict[str, Any]
    summary: dict[str, Any]
    run: dict[str, Any]
    folder: Path | None = None
    load: Callable[[], tuple[Sequence[Row], Sequence[Gap]]] = _nothing

    def __repr__(self) -> str:
        where = f" in '{self.folder}'" if self.folder is not None else ""
        return f"RecordedRun({self.run_id} {self.name!r}, {self.status}{where})"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the run and its final values."""
        cells = (f"<tr><td>{escape(key)}</td><td>{escape(str(value))}</td></tr>" for key, value in self.summary.items())
        heading = f"<b>{escape(self.name or self.run_id)}</b> ({escape(self.run_id)}), {escape(self.status)}"
        return f"<p>{heading}</p><table>{''.join(cells)}</table>"

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.run.get("run_id", ""))

    @property
    def name(self) -> str:
        """The run's name; "" without one."""
        return str(self.run.get("name") or "")

    @property
    def status(self) -> str:
        """The run's status: see `run`."""
        return str(self.run.get("status", ""))

    @cached_property
    def _loaded(self) -> tuple[Sequence[Row], Sequence[Gap]]:
        return self.load()

    @property
    def rows(self) -> Sequence[Row]:
        """Every row of every attempt, in the order written; a resumed training repeats steps."""
        return self._loaded[0]

    @property
    def gaps(self) -> Sequence[Gap]:
        """Rows that could not be written, such as to a full disk: (rows, first step, last step) of each gap."""
        return self._loaded[1]

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows as dictionaries: keys to values, `_row` (position), `_time` (Unix time, s) and `_pass` (attempt)."""
        return [{"_row": row.number, "_time": row.time, **row.values, "_pass": row.attempt} for row in self.rows]

    @cached_property
    def keys(self) -> list[str]:
        """The keys of the history, sorted."""
        return sorted({key for row in self.rows for key in row.values})

    @cached_property
    def console(self) -> list[Line]:
        """What the program printed, in order of time: (Unix time in seconds, stream, text) of each line."""
        lines = read_console(self.folder / console_name()) if self.folder is not None else []
        return sorted(lines, key=lambda line: line.time)

    @cached_property
    def samples(self) -> list[Sample]:
        """The tables and texts among the run's samples, such as TRL's completions; of a repeated step the later."""
        return read_samples(self.folder) if self.folder is not None else []

    def series(self, key: str) -> list[tuple[float | int, Any]]:
        """Returns (step, value) of every row with a key; of a repeated step the later attempt's.

        Args:
            key: whole (`epoch/val/loss`), or its end if no other key has that (`val/loss`); `loss` is `batch/loss`.

        Raises:
            ReadError: no key is meant, or several are.
        """
        key = self.find_key(key)
        axis = axis_key(key)
        return [(row.values.get(axis, row.number), row.values[key]) for row in self.rows_with(key)]

    def rows_with(self, key: str) -> list[Row]:
        """Returns the rows with a key, given whole; of a repeated step the later attempt's."""
        return [row for row in self.lineage if key in row.values]

    @cached_property
    def lineage(self) -> Sequence[Row]:
        """The rows that count: of a repeated step the later attempt's."""
        attempts = {row.attempt for row in self.rows}
        return counted(self.rows, "later") if len(attempts) > 1 else self.rows

    def find_key(self, word: str) -> str:
        """Returns the key of the history that a word means, as `series` takes it.

        Raises:
            ReadError: no key is meant, or several are.
        """
        meant = keys_meant(word, self.keys)
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise ReadError(f"several keys end with '{word}': {', '.join(meant)}. Give one of them.")
        known = {key.partition("/")[2] for key in self.keys}
        hint = did_you_mean(word, known) if known else "; the run has no rows"
        raise ReadError(f"no key '{word}' in the run's history{hint}")

    def to_pandas(self) -> pandas.DataFrame:
        """Returns the history as a table, one column per key.

        Raises:
            ReadError: pandas is not installed.
        """
        return frame(self.history)


def keys_meant(word: str, known: Collection[str]) -> list[str]:
    """Returns the keys that a word may mean: that key, else its `batch/` key, else all that end with it."""
    whole = next((key for key in (word, f"batch/{word}") if key in known), None)
    return [whole] if whole is not None else sorted(key for key in known if key.endswith(f"/{word}"))


def frame(rows: Sequence[dict[str, Any]]) -> pandas.DataFrame:
    """Returns dictionaries as a table.

    Raises:
        ReadError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ReadError(
            "to_pandas needs pandas, which is not installed. Run 'pip install pandas', or use '.history'."
        ) from error
    return pandas.DataFrame(rows)
