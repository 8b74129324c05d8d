"""`trackkit compare`: runs or groups of runs beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trackkit.cli.common import errors, meant
from trackkit.local_log.strict import strict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from trackkit.reading.comparison import Comparison, Side
    from trackkit.reading.statistics import MeanDifference, Sample

_MOST_CONFIG, _MOST_FILES, _MOST_LOG, _CURVES = 25, 10, 10, 2
_LEGEND = "Mean ± standard deviation; [95% interval of the difference of the means, Welch's]."


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

        found = compare_sides(_sides(words), metrics)
        if as_json:
            typer.echo(json.dumps(_plain(found), indent=1, default=str))
        else:
            _page(found, Console(highlight=False), found.keys if metrics else found.keys[:_CURVES])
        if html is not None:
            _write_page(found, html, metrics)


def _sides(words: list[str]) -> list[Side]:
    """Returns what the words mean; one that can't be read is left out as long as two others remain."""
    from trackkit.local_log.regular import ReadError
    from trackkit.reading.compare import side

    found, problems = [], []
    for word, runs in zip(words, meant(words), strict=True):
        try:
            found.append(side(word, runs))
        except ReadError as error:
            problems.append(error)
    if problems and len(found) < 2:
        raise problems[0]
    for problem in problems:
        typer.echo(f"Left out: {problem}", err=True)
    return found


def _write_page(found: Comparison, path: Path, metrics: list[str] | None) -> None:
    from trackkit.reading.collection import Runs
    from trackkit.reading.pictures import View
    from trackkit.reading.report import write_report

    runs = Runs({(run.run_id, run.folder): run for side in found.sides for run in side.runs}.values())
    # Runs of groups that have names become one line per group.
    by_group = any(len(side.runs) > 1 for side in found.sides) and all("group" in row for row in runs.table)
    done = write_report(runs, path, view=View(tuple(metrics or ()), group_by="group" if by_group else ""))
    typer.echo(f"Wrote '{done.path}'.", err=True)


def _page(found: Comparison, console: Console, drawn: Sequence[str]) -> None:
    from rich.text import Text

    from trackkit.reading.text_table import visible

    for number, each in enumerate(found.sides):
        names = ", ".join(run.run_id for run in each.runs[:6]) + (", ..." if len(each.runs) > 6 else "")
        title = visible(each.runs[0].name) if len(each.runs) == 1 else f"{len(each.runs)} runs"
        console.print(
            Text.assemble((_letter(number), "bold"), f"  {each.name}: {title} ({visible(names)})"), soft_wrap=True
        )
    for note in found.notes:
        console.print(Text(f"Note: {visible(note)}", style="yellow"), soft_wrap=True)
    _differences(found, console)
    _code(found, console)
    _measures(found, console)
    _overlay(found, console, drawn)


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def _differences(found: Comparison, console: Console) -> None:
    from trackkit.reading.columns import plain

    console.print("\nWhat differs", style="bold")
    shown = dict(list(found.config.items())[:_MOST_CONFIG])
    if not shown:
        console.print("nothing in the configuration, data or environment", style="dim")
        return
    values = zip(*shown.values(), strict=True)
    _columns(console, list(shown), {_letter(n): [plain(value) for value in each] for n, each in enumerate(values)})
    if len(found.config) > len(shown):
        console.print(f"... and {len(found.config) - len(shown)} more: --json has them all", style="dim")


def _columns(
    console: Console, names: Sequence[str], columns: Mapping[str, Sequence[str]], right: frozenset[str] = frozenset()
) -> None:
    """Prints columns beside the names of the rows; as several tables where a terminal is too narrow for one."""
    from trackkit.reading.terminal import fit, table, width

    def made(headings: Sequence[str]) -> Table:
        rows = list(zip(names, *(columns[each] for each in headings), strict=True))
        return table(["", *headings], rows, right)

    fit(console, made(list(columns)))
    block: list[str] = []
    for heading in columns:
        if block and width(console, made([*block, heading])) > console.width:
            console.print(made(block), "")
            block = []
        block.append(heading)
    console.print(made(block))


def _code(found: Comparison, console: Console) -> None:
    from rich.text import Text

    from trackkit.reading.text_table import visible

    known = {each for each in found.commits if each}
    if len(known) < 2 and not any("*" in commit for each in known for commit in each):
        return
    said = ", ".join(f"{_letter(n)} {' '.join(each) or 'unknown'}" for n, each in enumerate(found.commits))
    console.print(Text(f"\nCode: {visible(said)}"))
    for line in [*found.log[:_MOST_LOG], *(["..."] if len(found.log) > _MOST_LOG else [])]:
        console.print(Text(f"  {visible(line)}"), soft_wrap=True)
    files = [*found.files[:_MOST_FILES], *(["..."] if len(found.files) > _MOST_FILES else [])]
    if files:
        console.print(Text(visible(f"  changed: {', '.join(files)}")), soft_wrap=True)


def _measures(found: Comparison, console: Console) -> None:
    console.print("\nMetrics, time, memory, cost", style="bold")
    if not found.measures:
        console.print("none is recorded", style="dim")
        return
    names, letters = [each.name for each in found.measures], [_letter(n) for n in range(len(found.sides))]
    columns = {
        letter: [f"{_cell(each.samples[n])}{' *' if each.best == n else '  '}" for each in found.measures]
        for n, letter in enumerate(letters)
    }
    # Of many single runs, differences only repeat the values.
    if len(letters) == 2 or any(len(each.runs) > 1 for each in found.sides):
        for n, letter in enumerate(letters[1:], 1):
            columns[f"{letter} - A"] = [_difference(each.differences[n]) for each in found.measures]
    _columns(console, names, columns, frozenset(letters))
    for line in _legend(found):
        console.print(line, style="dim", markup=False, soft_wrap=True)


def _legend(found: Comparison) -> Iterator[str]:
    from trackkit.reading.statistics import NOT_IN_BOTH, TOO_FEW

    if any(each.best is not None for each in found.measures):
        yield "*: best."
    if any(len(each.runs) > 1 for each in found.sides):
        yield _LEGEND
    reasons = {each.reason for measure in found.measures for each in measure.differences if each is not None}
    if TOO_FEW in reasons:
        single = [_letter(n) for n, each in enumerate(found.sides) if len(each.runs) == 1]
        yield f"{', '.join(single) or 'Some'}: {TOO_FEW}; repeat it with other seeds, and compare the groups."
    yield from sorted(reasons - {"", TOO_FEW, NOT_IN_BOTH})


def _cell(found: Sample) -> str:
    from trackkit.reading.columns import plain

    if not found.n:
        return "-"
    return plain(found.mean) if found.n == 1 else f"{plain(found.mean)} ± {plain(found.sd, 2)}"


def _difference(found: MeanDifference | None) -> str:
    from trackkit.reading.columns import plain

    if found is None or found.value != found.value:
        return "-"
    value = f"{'+' if found.value >= 0 else ''}{plain(found.value)}"
    return value if found.reason else f"{value} [{plain(found.low, 3)}, {plain(found.high, 3)}] {found.verdict}"


def _overlay(found: Comparison, console: Console, keys: Sequence[str]) -> None:
    """Draws metrics of all sides over each other; of a group, the mean of its runs."""
    from trackkit.reading.compare import overlay
    from trackkit.reading.terminal import draw

    names = [
        f"{_letter(n)}{f' mean of {len(each.runs)}' if len(each.runs) > 1 else f' {each.runs[0].run_id}'}"
        for n, each in enumerate(found.sides)
    ]
    for key in keys:
        console.print()
        draw({name: overlay(each, key) for name, each in zip(names, found.sides, strict=True)}, console, title=key)


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
    rest = {name: getattr(found, name) for name in ("keys", "config", "commits", "log", "files", "notes")}
    return dict(_null({"sides": sides, **rest, "measures": measures}))


def _null(value: Any) -> Any:
    """Returns a value as strict JSON has it; NaN as null, infinities as the words of the local log."""
    if isinstance(value, dict):
        return {key: _null(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_null(each) for each in value]
    return None if value != value else strict(value)
