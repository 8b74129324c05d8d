"""One page about a run, for a terminal or a pipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trackkit.local_log.places import root_of, wandb_files
from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.collection import Runs
from trackkit.reading.columns import duration, facts, is_speed, plain, results
from trackkit.reading.curves import curve, main_keys
from trackkit.reading.differences import differences, previous
from trackkit.reading.findings.registry import findings
from trackkit.reading.statistics import is_number
from trackkit.reading.terminal import draw, fit, table
from trackkit.reading.text_table import visible
from trackkit.schema.goals import direction
from trackkit.schema.keys import AXES

_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "damaged": "red", "preempted": "yellow"}
_SEVERITY = {"high": "red", "medium": "yellow", "low": "dim"}
_MOST_DIFFERENCES, _MOST_RESULTS = 12, 16
# Said in the lines above the results.
_SAID = ("status", "error", "steps", "duration_h", "cost_usd")


def latest(run: RecordedRun) -> str:
    """Returns the last values of the main metrics, on one line."""
    last = {key: run.rows_with(key)[-1].values[key] for key in main_keys([run], 3)}
    step = run.rows[-1].step if run.rows else 0
    return ", ".join([f"step {step}", *(f"{key} {plain(value)}" for key, value in last.items())])


def print_page(run: RecordedRun, others: Runs | None, console: Console, log: bool) -> None:
    """Prints what a run is, how it stands, its results and curves, what may be wrong, and where its files are.

    Args:
        run: the run.
        others: runs to compare it with; None while it is followed.
        console: where to.
        log: whether losses are drawn on a logarithmic axis.
    """
    _head(run, console)
    _results(run, console)
    _curves(run, console, log)
    if run.status != "damaged":
        _warnings(run, others, console)
    if others is not None:
        _differences(run, others, console)
    _where(run, console)


def _line(*parts: str | tuple[str, str]) -> Text:
    """Returns texts, or texts with their styles, as one line; what comes from a run can't act on the terminal."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((visible(text), style) for text, style in pairs))


def _head(run: RecordedRun, console: Console) -> None:
    known = facts(run)
    console.print(_line((run.name or run.run_id, "bold"), f"  ({run.run_id})"), soft_wrap=True)
    parts = [_progress(run, known)]
    parts += [duration(known["duration_h"]) if "duration_h" in known else ""]
    parts += [f"started {duration(known['age_h'])} ago" if "age_h" in known else ""]
    parts += [" on ".join(filter(None, (known.get("framework"), known.get("host"))))]
    parts += [f"commit {known['commit']}" if "commit" in known else ""]
    text = ", ".join(filter(None, parts))
    console.print(_line((run.status, _STYLES.get(run.status, "")), f", {text}" if text else ""), soft_wrap=True)
    names = ("project", "group", "tags", "notes")
    more = [f"{name} {plain(known[name])}" for name in names if known.get(name)]
    more += [f"${known['cost']:.2f}"] if "cost" in known else []
    if "synced" in known:
        more.append("on a server" if known["synced"] else "not synced")
    console.print(_line(", ".join(more)), soft_wrap=True)
    if "error" in known:
        console.print(_line((str(known["error"]), "red")), soft_wrap=True)
    for gap in run.gaps:
        lost = f"{gap.rows} rows could not be written, of steps {gap.first} to {gap.last}."
        console.print(_line((lost, "yellow")), soft_wrap=True)


def _progress(run: RecordedRun, known: Mapping[str, Any]) -> str:
    """Returns the steps taken, of how many where the run has not finished, and the time left of a running one."""
    steps = known.get("steps")
    planned = next((row.values["batch/iter_num"] for row in reversed(run.rows) if "batch/iter_num" in row.values), 0)
    if steps is None or run.status == "finished" or not (is_number(steps) and is_number(planned) and steps < planned):
        return "" if steps is None else f"{steps} steps"
    left = known.get("duration_h", 0.0) * (planned - steps) / max(steps, 1)
    return f"{steps} of {planned:g} steps" + (f" (about {duration(left)} left)" if run.status == "running" else "")


def _results(run: RecordedRun, console: Console) -> None:
    """Prints last and best values of each metric, then what else the training ended with."""
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
        console.print()
        console.print(_line((", ".join(totals), "dim")), soft_wrap=not console.is_terminal)


def _final(run: RecordedRun) -> list[tuple[str, ...]]:
    """Returns name, last value, best value and its step of each metric in the summary."""
    return [(name, *map(plain, values)) for name, values in results(run.summary).items()]


def _so_far(run: RecordedRun) -> list[tuple[str, ...]]:
    """Returns the same of a run without a summary, such as a live one."""
    rows = []
    for key in (key for key in run.keys if key[:6] == "epoch/" and key not in AXES and not is_speed(key)):
        found, name, goal = curve(run, key).finite, key.removeprefix("epoch/"), direction(key)
        if len(found):
            at = None if goal is None or name[:4] != "val/" else (found.y.argmin if goal == "min" else found.y.argmax)()
            best = (None, None) if at is None else (float(found.y[at]), float(found.x[at]))
            rows.append((name, *map(plain, (float(found.y[-1]), *best))))
    return rows


def _curves(run: RecordedRun, console: Console, log: bool) -> None:
    keys = main_keys([run], 5)
    if not keys:
        console.print("\nNo rows yet." if run.status == "running" else "\nNo rows.", style="dim")
        return
    console.print()
    if not console.is_terminal:
        title = keys[0] if len(keys) == 1 else ""
        return draw({key: curve(run, key) for key in keys}, console, title=title, log=log)
    losses = [key for key in keys if key.endswith("/loss")]
    others = [key for key in keys if key not in losses][:1]
    if losses:
        title = losses[0] if len(losses) == 1 else "loss"
        draw({key: curve(run, key) for key in losses}, console, title=title, log=log)
    for key in others:
        draw({key: curve(run, key)}, console, title=key)


def _warnings(run: RecordedRun, others: Runs | None, console: Console) -> None:
    console.print("\nWarnings", style="bold")
    lines = Table.grid(padding=(0, 2))
    for each in findings(run, others):
        said = _line(each.text, (f" {each.advice}" if each.advice else "", "dim"))
        lines.add_row("", _line((each.severity, _SEVERITY[each.severity])), said)
    if not lines.row_count:
        lines.add_row("", _line(("none", "dim")))
    fit(console, lines)
    console.print(lines)


def _differences(run: RecordedRun, others: Runs, console: Console) -> None:
    before = previous(run, others)
    if before is None:
        return
    console.print()
    heading = f"Different from the run before it, {before.name or before.run_id} ({before.run_id})"
    console.print(_line((heading, "bold")), soft_wrap=True)
    found = differences(before, run)
    for each in found[:_MOST_DIFFERENCES]:
        console.print(_line(f"  {each.name}: {plain(each.before)} -> {plain(each.after)}"), soft_wrap=True)
    if len(found) > _MOST_DIFFERENCES:
        console.print(f"  ... and {len(found) - _MOST_DIFFERENCES} more: trackkit compare", style="dim")
    if not found:
        console.print("  nothing that is recorded", style="dim")


def _where(run: RecordedRun, console: Console) -> None:
    if run.folder is None:
        console.print()
        return console.print(_line(str(run.run.get("url", ""))), soft_wrap=True)
    for key, tables in Counter(sample.key for sample in run.samples).items():
        count = f"{tables} table{'s' * (tables != 1)} of {key}: RecordedRun.samples"
        console.print(_line((count, "dim")), soft_wrap=True)
    console.print("\nFiles", style="bold")
    files = (path for path in run.folder.iterdir() if path.name[0] != "." and path.is_file())
    names = sorted(path.name for path in files if path.stat().st_size)
    places = [(f"{run.folder}/", ", ".join(names)), *_wandb(wandb_files(root_of(run.folder), run.run_id))]
    for place, what in places:
        console.print(_line(f"  {place}", (f"  {what}", "dim")), soft_wrap=True)


def _wandb(files: list[Path]) -> list[tuple[str, str]]:
    return [(f"{path.parent}/", "W&B's files: 'wandb leet' with this folder shows them") for path in files]
