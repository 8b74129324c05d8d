"""Tables of samples, such as the completions of a training step: the one form in which sinks get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Rows of text and numbers under named columns.

    Attributes:
        columns: their names.
        rows: the cells of each row, in the order of the columns.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def table_of(value: Any) -> Table | None:
    """Returns a text, a pandas table or a W&B table as a `Table`; None for anything else."""
    if isinstance(value, Table):
        return value
    if isinstance(value, str):
        return Table(["text"], [[value]])
    columns, rows = getattr(value, "columns", None), getattr(value, "data", None)
    if columns is not None and hasattr(value, "itertuples"):
        rows = list(value.itertuples(index=False, name=None))
    if columns is None or not isinstance(rows, list):
        return None
    return Table([str(name) for name in columns], [list(row) for row in rows])
