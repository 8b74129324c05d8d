"""`trackkit show`: one page about a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trackkit.cli.common import errors

if TYPE_CHECKING:
    from rich.console import Console

    from trackkit.local_log.recorded import RecordedRun
    from trackkit.reading.collection import Runs

_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "damaged": "red", "preempted": "yellow"}
_SEVERITY = {"high": "red", "medium": "yellow", "low": "dim"}
_MOST_DIFFERENCES, _MOST_RESULTS = 12, 16
_PAUSE_S = 2.0
_SPEEDS = ("/runtime_s", "/samples_per_s", "/steps_per_s")
# Said in the lines above the results.
_SAID = ("status", "error", "steps", "duration_h", "cost_usd")


def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run id, run folder, output folder of one run, or entity/project/id.")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="Follow a run that is still being written.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Draw losses on a logarithmic axis.")] = False,
) -> None:
    """Shows what a run is, how it stands, its results and curves, what may be wrong, and where its files are."""
    from rich.console import Console

    from trackkit.reading.runs import neighbors, read_run

    console = Console(highlight=False)
    with errors():
        found = read_run(run)
        if watch:
            found = _follow(run, found, console, log)
        _page(found, neighbors(found), console, log)


def _follow(word: str, run: RecordedRun, console: Console, log: bool) -> RecordedRun:
    """Shows the page anew whenever the run has new rows; in a pipe, one line for each. Returns the run as it ended."""
    from trackkit.reading.runs import read_run

    seen = -1
    while run.status == "running":
        began = time.monotonic()
        if len(run.rows) != seen:
            seen = len(run.rows)
            if console.is_terminal:
                console.clear()
                _page(run, None, console, log)
            else:
                console.print(_progress(run), markup=False, soft_wrap=True)
        # A long log takes a while to read: most of the time goes to the training.
        time.sleep(max(_PAUSE_S, 5 * (time.monotonic() - began)))
        run = read_run(word)
    if console.is_terminal:
        console.clear()
    return run


def _progress(run: RecordedRun) -> str:
    from trackkit.reading.columns import plain
    from trackkit.reading.curves import main_keys

    last = {key: run.rows_with(key)[-1].values[key] for key in main_keys([run], 3)}
    step = run.rows[-1].step if run.rows else 0
    return ", ".join([f"step {step}", *(f"{key} {plain(value)}" for key, value in last.items())])


def _page(run: RecordedRun, others: Runs | None, console: Console, log: bool) -> None:
    _head(run, console)
    _results(run, console)
    _curves(run, console, log)
    if others is not None:
        if run.status != "damaged":
            _warnings(run, others, console)
        _differences(run, others, console)
    _where(run, console)


def _head(run: RecordedRun, console: Console) -> None:
    from rich.text import Text

    from trackkit.reading.columns import duration, facts, plain

    known = facts(run)
    console.print(Text.assemble((run.name or run.run_id, "bold"), f"  ({run.run_id})"))
    parts = [f"{known['steps']} steps" if "steps" in known else ""]
    parts += [duration(known["duration_h"]) if "duration_h" in known else ""]
    parts += [f"started {duration(known['age_h'])} ago" if "age_h" in known else ""]
    parts += [" on ".join(filter(None, (known.get("framework"), known.get("host"))))]
    parts += [f"commit {known['commit']}" if "commit" in known else ""]
    text = ", ".join(filter(None, parts))
    console.print(Text.assemble((run.status, _STYLES.get(run.status, "")), f", {text}" if text else ""), soft_wrap=True)
    names = ("project", "group", "tags", "notes")
    more = [f"{name} {plain(known[name])}" for name in names if known.get(name)]
    more += [f"${known['cost']:.2f}"] if "cost" in known else []
    if "synced" in known:
        more.append("on a server" if known["synced"] else "not synced")
    console.print(Text(", ".join(more)), soft_wrap=True)
    if "error" in known:
        console.print(Text(str(known["error"]), style="red"), soft_wrap=True)
    for gap in run.gaps:
        lost = f"{gap.rows} rows could not be written, of steps {gap.first} to {gap.last}."
        console.print(Text(lost, style="yellow"), soft_wrap=True)


def _results(run: RecordedRun, console: Console) -> None:
    """Prints last and best values of each metric, then what else the training ended with."""
    from rich.text import Text

    from trackkit.reading.columns import plain
    from trackkit.reading.terminal import table

    rows = _final(run) or _so_far(run)
    if rows:
        headings = ["metric", "last", "best", "at step"]
        console.print()
        console.print(table(headings, [list(map(str, row)) for row in rows[:_MOST_RESULTS]], frozenset(headings[1:])))
    if len(rows) > _MOST_RESULTS:
        console.print(f"... and {len(rows) - _MOST_RESULTS} more: trackkit ls --columns 'final/*'", style="dim")
    ends = {key.removeprefix("final/"): value for key, value in run.summary.items() if key.startswith("final/")}
    totals = [f"{name} {plain(value)}" for name, value in ends.items() if "/" not in name and value]
    totals = [text for text in totals if text.partition(" ")[0] not in _SAID]
    if totals:
        console.print(Text(f"\n{', '.join(totals)}", style="dim"))


def _final(run: RecordedRun) -> list[tuple[str, ...]]:
    """Returns name, last value, best value and its step of each metric in the summary."""
    from trackkit.reading.columns import plain

    summary = run.summary
    results = [key for key in summary if key.startswith(("final/val/", "final/test/", "final/train/"))]
    names = [key.removeprefix("final/") for key in results if not key.endswith(_SPEEDS)]
    best = [(summary.get(f"final/best/{name}"), summary.get(f"final/best/{name}_step")) for name in names]
    return [(name, *map(plain, (summary[f"final/{name}"], *at))) for name, at in zip(names, best, strict=True)]


def _so_far(run: RecordedRun) -> list[tuple[str, ...]]:
    """Returns the same of a run without a summary, such as a live one."""
    from trackkit.reading.columns import plain
    from trackkit.reading.curves import curve
    from trackkit.schema.goals import direction

    rows = []
    for key in (key for key in run.keys if key.count("/") > 1 and key[:6] == "epoch/" and not key.endswith(_SPEEDS)):
        found, name, goal = curve(run, key).finite, key.removeprefix("epoch/"), direction(key)
        if len(found):
            at = None if goal is None or name[:4] != "val/" else (found.y.argmin if goal == "min" else found.y.argmax)()
            best = (None, None) if at is None else (float(found.y[at]), float(found.x[at]))
            rows.append((name, *map(plain, (float(found.y[-1]), *best))))
    return rows


def _curves(run: RecordedRun, console: Console, log: bool) -> None:
    from trackkit.reading.curves import curve, main_keys
    from trackkit.reading.terminal import draw

    keys = main_keys([run], 5)
    if not keys:
        console.print("\nNo rows yet." if run.status == "running" else "\nNo rows.", style="dim")
        return
    console.print()
    if not console.is_terminal:
        return draw({key: curve(run, key) for key in keys}, console, log=log)
    losses = [key for key in keys if key.endswith("/loss")]
    others = [key for key in keys if key not in losses][:1]
    if losses:
        title = losses[0] if len(losses) == 1 else "loss"
        draw({key: curve(run, key) for key in losses}, console, title=title, log=log)
    for key in others:
        draw({key: curve(run, key)}, console, title=key)


def _warnings(run: RecordedRun, others: Runs, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from trackkit.reading.findings.registry import findings
    from trackkit.reading.terminal import fit

    console.print("\nWarnings", style="bold")
    lines = Table.grid(padding=(0, 2))
    for each in findings(run, others):
        said = Text.assemble(each.text, (f" {each.advice}" if each.advice else "", "dim"))
        lines.add_row("", Text(each.severity, style=_SEVERITY[each.severity]), said)
    if not lines.row_count:
        lines.add_row("", Text("none", style="dim"))
    fit(console, lines)
    console.print(lines)


def _differences(run: RecordedRun, others: Runs, console: Console) -> None:
    from rich.text import Text

    from trackkit.reading.columns import plain
    from trackkit.reading.differences import differences, previous

    before = previous(run, others)
    if before is None:
        return
    console.print(Text(f"\nDifferent from the run before it, {before.name or before.run_id} ({before.run_id})", "bold"))
    found = differences(before, run)
    for each in found[:_MOST_DIFFERENCES]:
        console.print(Text(f"  {each.name}: {plain(each.before)} -> {plain(each.after)}"), soft_wrap=True)
    if len(found) > _MOST_DIFFERENCES:
        console.print(f"  ... and {len(found) - _MOST_DIFFERENCES} more: trackkit compare", style="dim")
    if not found:
        console.print("  nothing that is recorded", style="dim")


def _where(run: RecordedRun, console: Console) -> None:
    from rich.text import Text

    from trackkit.local_log.places import root_of, wandb_files

    if run.folder is None:
        return console.print(Text(f"\n{run.run.get('url', '')}"), soft_wrap=True)
    console.print("\nFiles", style="bold")
    names = sorted(path.name for path in run.folder.iterdir() if path.is_file() and path.name[0] != ".")
    places = [(f"{run.folder}/", ", ".join(names)), *_wandb(wandb_files(root_of(run.folder), run.run_id))]
    for place, what in places:
        console.print(Text.assemble(f"  {place}", (f"  {what}", "dim")), soft_wrap=True)


def _wandb(files: list[Path]) -> list[tuple[str, str]]:
    return [(f"{path.parent}/", "W&B's files: 'wandb leet' with this folder shows them") for path in files]
