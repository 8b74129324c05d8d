"""Chooses what is recorded of pictures, tables and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from trackkit.engine.callback import Callback
from trackkit.engine.tables import Table


class Samples(Callback):
    """Records pictures, tables and texts; cuts the tables that a framework makes, such as TRL's completions.

    | key | unit | what |
    |---|---|---|
    | `samples/<name>` | media | what the program or the framework shows of its data and results |

    Args:
        max_rows: most rows of a table that a framework makes. Tables that the program logs are recorded whole.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("max_rows",)

    def __init__(self, max_rows: int = 100) -> None:
        if isinstance(max_rows, bool) or not isinstance(max_rows, int) or max_rows < 1:
            raise ValueError(f"max_rows={max_rows!r} is not a whole number from 1 on")
        self._max_rows = max_rows

    def samples(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: self._cut(value) if isinstance(value, Table) else value for key, value in values.items()}

    def _cut(self, table: Table) -> Table:
        return table._replace(rows=table.rows[: self._max_rows])
