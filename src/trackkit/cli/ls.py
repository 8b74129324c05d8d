"""`trackkit ls`: a table of runs, or of groups of runs."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trackkit.cli.common import ManyRuns, Where, errors, select
from trackkit.local_log.strict import strict

if TYPE_CHECKING:
    from trackkit.reading.collection import Runs

_DEFAULT = ("name", "id", "status", "age_h", "duration_h", "steps", "best", "tags", "group", "commit", "synced")
# Left out first where the terminal is narrow.
_EXPENDABLE = ("tags", "synced", "commit", "group", "age_h", "duration_h")
_STYLES = {"running": "cyan", "failed": "red", "damaged": "red", "preempted": "yellow"}
# A comma between columns: not one in quotes or brackets.
_COMMA = re.compile(r""",(?=(?:[^'"]*(?:'[^']*'|"[^"]*"))*[^'"]*$)(?![^\[(]*[\])])""")
_COLUMN = re.compile(r"(?:([\w ./@-]+?)\s*=(?!=))?(.*)", re.DOTALL)
_MOST_DAMAGED, _MOST_OF_BUDGET = 5, 20

# The columns of a bill, and what they are called in a table.
_BILL = {
    "duration_h": "hours",
    "gpu_hours": "GPU h",
    "energy_kWh": "kWh",
    "cost": "USD",
    "best": "best",
    "best_key": "metric",
    "cost_per_point": "USD per point",
}
# Heading to values.
Columns = dict[str, Sequence[Any]]


def ls(
    runs: ManyRuns = None,
    where: Where = "",
    sort: Annotated[
        str,
        typer.Option(
            help="Column or expression to sort by; '-' in front: descending. Default: newest first.", show_default=False
        ),
    ] = "",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns, separated by commas; 'hparams/*' is all of these, \"name = expression\" a derived one.",
            show_default=False,
        ),
    ] = None,
    group_by: Annotated[
        str,
        typer.Option(
            help="One line per value of a column (or 'tag'): number of runs, mean and deviation, best. With "
            "'--columns cost': the bill, and the runs that took 80% of it."
        ),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many lines; 0: all.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every column unless --columns.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Lists runs with their status and best value. Reads only their summaries."""
    with errors():
        if as_json and as_csv:
            raise typer.BadParameter("give --json or --csv, not both")
        every = select(runs or [])
        if not every:
            typer.echo("No runs yet: train with TrackKit, or name a folder with runs.", err=True)
            raise typer.Exit(1)
        found = every.filter(where) if where else every
        if not found:
            typer.echo(f"None of {len(every)} runs matches '{where}'.", err=True)
        asked = _asked(columns or [], found.known)
        if group_by:
            table = _sorted(_grouped(found, group_by, asked), sort)
        else:
            found = found.sort(sort.removeprefix("-") or "age_h", descending=sort.startswith("-"))
            names = asked or {name: name for name in _by_default(found, as_json, as_csv)}
            table = {name: found.column(text) for name, text in names.items()}
        table = {name: values[: limit or None] for name, values in table.items()}
        if as_json:
            _print_json(table, sparse=not (asked or group_by))
        elif as_csv:
            _print_csv(table)
        elif group_by:
            _print_groups(table, found, with_bill="cost" in asked)
        elif found:
            _print_runs(table, found, chosen=bool(asked))


def _asked(columns: Sequence[str], known: frozenset[str]) -> dict[str, str]:
    """Returns the columns asked for: name to expression."""
    found: dict[str, str] = {}
    for part in (part for text in columns for part in map(str.strip, _COMMA.split(text)) if part):
        name, expression = (each.strip() if each else "" for each in _COLUMN.fullmatch(part).groups())  # type: ignore[union-attr]
        if part.endswith("/*") and (those := [key for key in sorted(known) if fnmatchcase(key, part)]):
            found.update({key: key for key in those})
        else:
            found[part if part in known else name or expression] = part if part in known else expression
    return found


def _by_default(runs: Runs, as_json: bool, as_csv: bool) -> Sequence[str]:
    return sorted(runs.known) if as_json else (*_DEFAULT, "best_key") if as_csv else _DEFAULT


def _grouped(runs: Runs, by: str, asked: Mapping[str, str]) -> Columns:
    """Returns for each group its value, the number of runs, and mean, deviation, number and best of each column."""
    from trackkit.reading.rollup import bill, main_metric, spread

    groups, main = runs.group(by), main_metric(runs)
    names = {name: text for name, text in asked.items() if name != "cost"}
    if not asked:
        names = {"best": "best"} if main else {"steps": "steps"}
    table: Columns = {by: list(groups), "n": [len(members) for members in groups.values()]}
    for name, text in names.items():
        # Values of different metrics have no mean.
        column, name = (main, main) if text == "best" and main else (text, name)
        spreads = [spread(members, column) for members in groups.values()]
        table[name] = [each.mean for each in spreads]
        table |= {f"{name} {what}": [getattr(each, what) for each in spreads] for what in ("sd", "n", "best")}
    if "cost" in asked:
        bills = [bill(members) for members in groups.values()]
        table |= {name: [getattr(each, name) for each in bills] for name in _BILL}
    return table


def _sorted(table: Columns, by: str) -> Columns:
    """Returns a table of groups sorted by one of its columns.

    Raises:
        ExpressionError: it has no such column.
    """
    from trackkit.errors import did_you_mean
    from trackkit.reading.collection import order
    from trackkit.reading.expression import ExpressionError

    name, descending = by.removeprefix("-"), by.startswith("-")
    if not by:
        return table
    if name not in table:
        raise ExpressionError(f"groups can't be sorted by '{name}'{did_you_mean(name, table)}")
    places = order(table[name], descending)
    return {name: [column[place] for place in places] for name, column in table.items()}


def _print_runs(table: Columns, runs: Runs, chosen: bool) -> None:
    from trackkit.reading.columns import duration, plain
    from trackkit.reading.text_table import visible

    shown: dict[str, list[str]] = {}
    for name, values in table.items():
        is_empty = all(value in (None, [], "") for value in values)
        if chosen or not is_empty:
            is_hours = name in ("age_h", "duration_h") and not chosen
            shown[_title(name) if is_hours else name] = [
                duration(value) if is_hours and value is not None else plain(value) for value in values
            ]
    if "best" in shown and not chosen:
        keys = [_short(str(row.get("best_key", ""))) for row in runs.table[: len(shown["best"])]]
        shown["best"] = [f"{key} {cell}".strip() for key, cell in zip(keys, shown["best"], strict=True)]
    numeric = {_title(name) for name, values in table.items() if name == "best" or _are_numbers(values)}
    _print_table(shown, numeric | (set(table) & numeric), () if chosen else [_title(name) for name in _EXPENDABLE])
    if (lines := len(next(iter(table.values())))) < len(runs):
        typer.secho(f"{lines} of {len(runs)} runs.", dim=True)
    damaged = [row for row in runs.table if row["status"] == "damaged"]
    for row in damaged[:_MOST_DAMAGED]:
        typer.secho(visible(f"{row['id']} is damaged: {row.get('error', '')}"), fg="red")
    if len(damaged) > _MOST_DAMAGED:
        typer.secho(f"{len(damaged) - _MOST_DAMAGED} more are damaged: --columns id,error", fg="red")


def _title(name: str) -> str:
    return {"age_h": "age", "duration_h": "duration"}.get(name, name)


def _short(name: str) -> str:
    """Returns the name of a metric that a column has the best value of."""
    return name.removeprefix("final/best/")


def _print_groups(table: Columns, runs: Runs, with_bill: bool) -> None:
    from trackkit.reading.columns import plain

    shown: dict[str, list[str]] = {}
    texts = set()
    names = iter(table)
    for name in names:
        values, short = table[name], _short(name)
        if f"{name} sd" in table:
            sd, n, best = (table[next(names)] for _ in range(3))
            shown[f"{short} mean ± sd"] = [_mean(*each) for each in zip(values, sd, n, table["n"], strict=True)]
            shown |= {f"best {short}": list(map(plain, best))} if set(best) != {None} else {}
        elif not (with_bill and name in _BILL and set(values) == {None}):
            title = _BILL.get(name, name) if with_bill else name
            shown[title] = [_short(plain(value)) for value in values]
            texts |= set() if _are_numbers(values) else {title}
    _print_table(shown, shown.keys() - texts, ())
    if with_bill:
        _print_budget(runs)


def _mean(mean: float | None, sd: float | None, n: int, members: int) -> str:
    """Returns `0.5 ± 0.1`; with the number of runs that have the value where others have none."""
    from trackkit.reading.columns import plain

    return plain(mean) + (f" ± {plain(sd, 2)}" if sd is not None else "") + (f" (of {n})" if 0 < n < members else "")


def _print_table(columns: Mapping[str, Sequence[str]], right: set[str], expendable: Sequence[str]) -> None:
    """Prints a table; in a narrow terminal without the expendable columns, and with texts cut."""
    from trackkit.reading.text_table import TextTable, joined

    table = TextTable(columns, right, ("id", "status"))
    dropped = table.fit(shutil.get_terminal_size().columns, expendable) if sys.stdout.isatty() else []
    head, *body = table.lines()
    typer.secho(joined(head), bold=True)
    for cells in body:
        if "status" in cells:
            cells["status"] = typer.style(cells["status"], fg=_STYLES.get(cells["status"].strip()))
        typer.echo(joined(cells))
    if dropped:
        typer.secho(f"Left out of this narrow terminal: {', '.join(dropped)}. Choose with --columns.", dim=True)


def _print_budget(runs: Runs) -> None:
    from trackkit.reading.columns import plain
    from trackkit.reading.rollup import budget
    from trackkit.reading.text_table import visible

    column, total, most = budget(runs)
    if not most:
        return typer.echo("\nNo run has recorded what it cost.")
    if column != "cost":
        typer.secho("No dollars: set 'price_per_gpu_hour' (callbacks: final_summary).", dim=True)
    typer.echo(f"\n{len(most)} of {len(runs)} runs took 80% of the budget, {plain(total)} {_BILL[column]}:")
    for run, share in most[:_MOST_OF_BUDGET]:
        typer.echo(f"  {100 * share:5.1f}%  {visible(run.run_id)}  {visible(run.name)}".rstrip())
    if len(most) > _MOST_OF_BUDGET:
        typer.echo(f"  ... and {len(most) - _MOST_OF_BUDGET} more: --sort -{column}")


def _are_numbers(values: Sequence[Any]) -> bool:
    numbers = [value for value in values if value is not None]
    return bool(numbers) and all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in numbers)


def _print_json(table: Columns, sparse: bool) -> None:
    lines = [dict(zip(table, map(strict, row), strict=True)) for row in zip(*table.values(), strict=True)]
    if sparse:
        lines = [{name: value for name, value in line.items() if value is not None} for line in lines]
    typer.echo(json.dumps(lines, indent=1))


def _print_csv(table: Columns) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(map(_csv, row) for row in zip(*table.values(), strict=True))


def _csv(value: Any) -> Any:
    return "" if value is None else json.dumps(strict(value)) if isinstance(value, (list, tuple, dict)) else value
