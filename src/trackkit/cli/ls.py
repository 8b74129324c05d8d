"""`trackkit ls`: a table of runs."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trackkit.cli.common import errors, select

if TYPE_CHECKING:
    from trackkit.reading.collection import Runs

_DEFAULT = ("name", "id", "status", "age_h", "duration_h", "steps", "best", "tags", "group", "commit", "synced")
# Left out first where the terminal is narrow.
_EXPENDABLE = ("tags", "synced", "commit", "age_h", "group", "duration_h")
_STYLES = {"running": "cyan", "failed": "red", "damaged": "red", "preempted": "yellow"}
_RIGHT = frozenset({"age", "duration", "steps", "best", "n"})
# A comma between columns: not one in quotes or brackets.
_COMMA = re.compile(r""",(?=(?:[^'"]*(?:'[^']*'|"[^"]*"))*[^'"]*$)(?![^\[(]*[\])])""")
_BILL = ("hours", "GPU h", "kWh", "USD", "USD per point")


def ls(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Folder with runs, run id, group, or entity/project on W&B. Default: all your runs.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[str, typer.Option(help='Only runs for which this is true: "hparams/lr > 1e-4".')] = "",
    sort: Annotated[str, typer.Option(help="Column or expression to sort by; '-' in front: descending.")] = "age_h",
    columns: Annotated[
        list[str] | None,
        typer.Option(help='Columns, separated by commas; derived ones as "name = expression".', show_default=False),
    ] = None,
    group_by: Annotated[
        str, typer.Option(help="One line per value: number of runs, mean and deviation, best. 'cost': the bill.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many lines; 0: all.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every column unless --columns.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Lists runs: what they are, how they stand, their best value. Reads only their summaries."""
    with errors():
        if as_json and as_csv:
            raise typer.BadParameter("give --json or --csv, not both")
        found = select(runs or [])
        if not found:
            typer.echo("No runs yet: train with TrackKit, or name a folder with runs.", err=True)
            raise typer.Exit(1)
        found = found.filter(where) if where else found
        found = found.sort(sort.removeprefix("-"), descending=sort.startswith("-"))
        asked = _asked(columns or [])
        if group_by:
            headings, rows = _grouped(found, group_by, asked)
        else:
            names = asked or {name: name for name in (sorted(found.known) if as_json else _DEFAULT)}
            headings, rows = list(names), list(zip(*(found.column(text) for text in names.values()), strict=True))
        rows = rows[: limit or None]
        if as_json:
            lines = [{name: _strict(value) for name, value in zip(headings, row, strict=True)} for row in rows]
            typer.echo(json.dumps(lines if asked or group_by else [_filled(line) for line in lines], indent=1))
        elif as_csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(headings)
            writer.writerows([_csv(value) for value in row] for row in rows)
        else:
            _print(headings, rows, len(found), found, keep=bool(asked or group_by))
            if group_by and "cost" in asked:
                _print_budget(found)


def _asked(columns: Sequence[str]) -> dict[str, str]:
    """Returns the columns asked for: name to expression."""
    found = {}
    for text in columns:
        for part in filter(None, map(str.strip, _COMMA.split(text))):
            name, derived, expression = re.match(r"(?:([\w ./@-]+?)\s*(=)(?!=))?(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
            found[name if derived else part] = expression.strip()
    return found


def _grouped(runs: Runs, by: str, asked: dict[str, str]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Returns a row per group: its value, the number of runs, then mean, deviation and best of each column."""
    from trackkit.reading.rollup import best_of, bill
    from trackkit.reading.statistics import sample

    names = {name: text for name, text in asked.items() if name != "cost"}
    key = next((row["best_key"] for row in runs.table if "best_key" in row), None)
    if not asked:
        names = {key: key} if key else {"steps": "steps"}
    headings = [by, "n"]
    for name in names:
        headings += [name, f"{name} sd", f"{name} best"]
    rows = []
    for value, members in runs.group(by).items():
        row = [value, len(members)]
        for text in names.values():
            values = members.column(text)
            found = sample(values)
            row += [_number(found.mean), _number(found.sd), best_of(values, key if text == "best" and key else text)]
        if "cost" in asked:
            owed = bill(members)
            row += [owed.hours, owed.gpu_hours, owed.energy_kwh, owed.cost_usd, owed.usd_per_point]
        rows.append(tuple(row))
    return headings + (list(_BILL) if "cost" in asked else []), rows


def _number(value: float) -> float | None:
    return value if value == value else None


def _print(headings: list[str], rows: list[tuple[Any, ...]], total: int, runs: Runs, keep: bool) -> None:
    """Prints a table; in a narrow terminal without columns that were not asked for, and with texts cut."""
    from trackkit.reading.text_table import TextTable, joined

    table = TextTable(_shown(headings, rows, runs, keep), _RIGHT | _numeric(headings, rows), ("id", "status"))
    dropped = []
    if sys.stdout.isatty():
        dropped = table.fit(shutil.get_terminal_size().columns, () if keep else [_title(name) for name in _EXPENDABLE])
    head, *body = table.lines()
    typer.secho(joined(head), bold=True)
    for cells in body:
        if "status" in cells:
            cells["status"] = typer.style(cells["status"], fg=_STYLES.get(cells["status"].strip()))
        typer.echo(joined(cells))
    if dropped:
        typer.secho(f"Left out of this narrow terminal: {', '.join(dropped)}. Choose with --columns.", dim=True)
    if len(rows) < total and "n" not in headings:
        typer.secho(f"{len(rows)} of {total} runs.", dim=True)


def _shown(headings: list[str], rows: list[tuple[Any, ...]], runs: Runs, keep: bool) -> dict[str, list[str]]:
    """Returns titles to cells. By default, columns without any value are left out."""
    from trackkit.reading.columns import duration, plain

    found: dict[str, list[str]] = {}
    for number, name in enumerate(headings):
        values = [row[number] for row in rows]
        is_empty = all(value in (None, [], "") for value in values)
        if is_empty and (not keep or name in _BILL):
            continue
        show = duration if name in ("age_h", "duration_h") else plain
        cells = [plain(None) if value is None else show(value) for value in values]
        if name.removesuffix(" sd") in found:
            means = found[name.removesuffix(" sd")]
            with_sd = [f"{mean} ± {cell}" for mean, cell in zip(means, cells, strict=True)]
            means[:] = [mean if sd is None else both for mean, sd, both in zip(means, values, with_sd, strict=True)]
        else:
            found[_title(name)] = cells
    if "best" in found and not keep:
        found["best"] = _with_metric(found["best"], runs)
    return found


def _with_metric(cells: list[str], runs: Runs) -> list[str]:
    """Returns best values with the name of their metric."""
    names = [str(row.get("best_key", "")).removeprefix("final/best/") for row in runs.table]
    return [f"{name} {cell}".strip() for cell, name in zip(cells, names, strict=False)]


def _title(name: str) -> str:
    return {"age_h": "age", "duration_h": "duration"}.get(name, name)


def _numeric(headings: list[str], rows: list[tuple[Any, ...]]) -> frozenset[str]:
    """Returns the headings of columns that hold numbers only."""
    numeric = []
    for number, name in enumerate(headings):
        values = [row[number] for row in rows if row[number] is not None]
        if values and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            numeric.append(_title(name))
    return frozenset(numeric)


def _print_budget(runs: Runs) -> None:
    from trackkit.reading.rollup import budget

    column, most = budget(runs)
    if not most:
        return typer.echo("No run has recorded what it cost.")
    typer.echo(f"\n{len(most)} of {len(runs)} runs took 80% of the budget ({column}):")
    for run, share in most:
        typer.echo(f"  {100 * share:5.1f}%  {run.run_id}  {run.name}")


def _strict(value: Any) -> Any:
    """Returns a value as strict JSON has it; NaN and infinities as the words of the local log."""
    if isinstance(value, float) and value - value != 0:
        return {"nan": "NaN", "inf": "Infinity"}.get(str(value), "-Infinity")
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _strict(each) for key, each in value.items()}
    return value


def _filled(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if value is not None}


def _csv(value: Any) -> Any:
    return "" if value is None else json.dumps(_strict(value)) if isinstance(value, (list, tuple, dict)) else value
