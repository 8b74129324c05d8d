"""`trackkit compare`: runs or groups of runs beside each other."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trackkit.cli.common import errors, select

if TYPE_CHECKING:
    from rich.console import Console

    from trackkit.reading.compare import Comparison, Measure
    from trackkit.reading.statistics import MeanDifference, Sample

_MOST_CONFIG, _MOST_FILES = 25, 10
_LEGEND = "*: best. mean ± standard deviation; [95% interval of the difference of the means, Welch's]"


def compare(
    words: Annotated[
        list[str],
        typer.Argument(metavar="A B...", help="Runs, folders with the runs of a group, or names of groups."),
    ],
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="Metrics to compare.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with their curves, as report does.", show_default=False)
    ] = None,
) -> None:
    """Compares runs or groups: what differs, metrics at equal steps and at the end, time, memory, cost.

    Groups are compared by their means, with Welch's 95% interval of the difference.
    """
    with errors():
        from rich.console import Console

        from trackkit.reading.compare import compare as compare_sides
        from trackkit.reading.compare import side

        found = compare_sides([side(word, select([word])) for word in words], metrics)
        if as_json:
            typer.echo(json.dumps(_plain(found), indent=1, default=str))
        else:
            _page(found, Console(highlight=False), metrics)
        if html is not None:
            _write_page(found, html, metrics)


def _write_page(found: Comparison, path: Path, metrics: list[str] | None) -> None:
    from trackkit.reading.collection import Runs
    from trackkit.reading.report import View, write_report

    runs = Runs({(run.run_id, run.folder): run for side in found.sides for run in side.runs}.values())
    # Runs of groups that have names become one line per group.
    by_group = any(len(side.runs) > 1 for side in found.sides) and all("group" in row for row in runs.table)
    done = write_report(runs, path, view=View(tuple(metrics or ()), group_by="group" if by_group else ""))
    typer.echo(f"Wrote '{done.path}'.", err=True)


def _page(found: Comparison, console: Console, metrics: list[str] | None) -> None:
    from rich.text import Text

    for number, each in enumerate(found.sides):
        names = ", ".join(run.run_id for run in each.runs[:6]) + (", ..." if len(each.runs) > 6 else "")
        title = each.runs[0].name if len(each.runs) == 1 else f"{len(each.runs)} runs"
        console.print(Text.assemble((_letter(number), "bold"), f"  {each.name}: {title} ({names})"), soft_wrap=True)
    for note in found.notes:
        console.print(Text(f"Note: {note}", style="yellow"), soft_wrap=True)
    _differences(found, console)
    _code(found, console)
    _measures(found, console)
    _overlay(found, console, metrics)


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def _differences(found: Comparison, console: Console) -> None:
    from trackkit.reading.columns import plain
    from trackkit.reading.terminal import fit, table

    console.print("\nWhat differs", style="bold")
    rows = [[key, *map(plain, values)] for key, values in found.config.items()]
    if not rows:
        console.print("nothing in the configuration, data or environment", style="dim")
        return
    made = table(["", *map(_letter, range(len(found.sides)))], rows[:_MOST_CONFIG])
    fit(console, made)
    console.print(made)
    if len(rows) > _MOST_CONFIG:
        console.print(f"... and {len(rows) - _MOST_CONFIG} more: --json has them all", style="dim")


def _code(found: Comparison, console: Console) -> None:
    from rich.text import Text

    if len({each for each in found.commits if each}) < 2:
        return
    said = ", ".join(f"{_letter(n)} {' '.join(each) or 'unknown'}" for n, each in enumerate(found.commits))
    console.print(Text(f"\nCode: {said}"))
    for line in found.log:
        console.print(Text(f"  {line}"))
    files = [*found.files[:_MOST_FILES], *(["..."] if len(found.files) > _MOST_FILES else [])]
    if files:
        console.print(Text(f"  changed: {', '.join(files)}"), soft_wrap=True)


def _measures(found: Comparison, console: Console) -> None:
    from trackkit.reading.terminal import fit, table

    console.print("\nMetrics, time, memory, cost", style="bold")
    if not found.measures:
        console.print("none is recorded", style="dim")
        return
    letters = [_letter(number) for number in range(len(found.sides))]
    many = any(each.n > 1 for measure in found.measures for each in measure.samples)
    headings = ["", *letters, *(f"{letter} - A" for letter in letters[1:])]
    made = table(headings, [_row(measure, many) for measure in found.measures], frozenset(letters))
    fit(console, made)
    console.print(made)
    if many:
        console.print(_LEGEND, style="dim", markup=False)


def _row(measure: Measure, many: bool) -> list[str]:
    cells = [f"{_cell(each)}{' *' if measure.best == n else ''}" for n, each in enumerate(measure.samples)]
    return [measure.name, *cells, *(_difference(each, many) for each in measure.differences if each is not None)]


def _cell(found: Sample) -> str:
    from trackkit.reading.columns import plain

    if not found.n:
        return "-"
    return plain(found.mean) if found.n == 1 else f"{plain(found.mean)} ± {plain(found.sd, 2)}"


def _difference(found: MeanDifference, many: bool) -> str:
    from trackkit.reading.columns import plain

    if found.value != found.value:
        return "-"
    value = f"{'+' if found.value >= 0 else ''}{plain(found.value)}"
    if not many:
        return value
    if found.reason:
        return f"{value}  {found.reason}"
    return f"{value} [{plain(found.low, 3)}, {plain(found.high, 3)}]  {found.verdict}"


def _overlay(found: Comparison, console: Console, metrics: list[str] | None) -> None:
    """Draws the first metrics of all runs over each other."""
    from trackkit.reading.curves import curve, main_keys
    from trackkit.reading.terminal import draw

    runs = [(_letter(n), run) for n, each in enumerate(found.sides) for run in each.runs[:3]]
    for key in metrics or main_keys([run for _, run in runs], 2, results=True):
        with_key = [(letter, run) for letter, run in runs if _has(run, key)]
        console.print()
        draw({f"{letter} {run.run_id}": curve(run, key) for letter, run in with_key}, console, title=key)


def _has(run: Any, key: str) -> bool:
    from trackkit.local_log.regular import ReadError

    try:
        return bool(run.find_key(key))
    except ReadError:
        return False


def _plain(found: Comparison) -> dict[str, Any]:
    """Returns the comparison for JSON; NaN as null."""
    measures = [
        {
            "name": each.name,
            "goal": each.goal,
            "samples": [asdict(one) for one in each.samples],
            "differences": [one and {**asdict(one), "verdict": one.verdict} for one in each.differences],
        }
        for each in found.measures
    ]
    sides = [{"name": each.name, "runs": [run.run_id for run in each.runs]} for each in found.sides]
    rest = {name: getattr(found, name) for name in ("config", "commits", "log", "files", "notes")}
    return dict(_null({"sides": sides, **rest, "measures": measures}))


def _null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _null(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_null(each) for each in value]
    return None if isinstance(value, float) and value != value else value
