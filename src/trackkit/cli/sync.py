"""`trackkit sync`: brings runs to the W&B server, and verifies that all of each has arrived."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from trackkit.sync.server_run import Server
    from trackkit.sync.target import Target
    from trackkit.sync.verdict import Report

_STYLES = {"complete": "green", "unchanged": "green", "running": "yellow", "skipped": "yellow", "superseded": "yellow"}
_FAILED = 1
_CTRL_C = 130


def sync(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run id, run folder, output folder or W&B's folder of a run; all unsynced runs of yours without.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow runs that are still being written, until they end.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=1.0, help="Seconds that the server may stay silent before an upload is given up.")
    ] = 60.0,
    jobs: Annotated[int, typer.Option("--jobs", "-n", min=1, help="Runs synced at a time.")] = 4,
) -> None:
    """Uploads runs that were recorded offline or broke off, and verifies rows, summary, console and artifacts.

    Safe to repeat and to interrupt. Ends with 1 if anything is missing on the server.
    """
    from trackkit.errors import TrackKitError

    console = Console()
    try:
        reports = _sync(runs or [], watch, patience, jobs, console)
    except TrackKitError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(_FAILED) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. What was uploaded stays; the same command goes on from there.")
        raise typer.Exit(_CTRL_C) from None
    if reports:
        _show(reports, console)
    else:
        console.print("Nothing to sync: every run of the index is on the server.")
    if not all(report.good for report in reports):
        raise typer.Exit(_FAILED)


def _sync(runs: list[str], watch: bool, patience: float, jobs: int, console: Console) -> list[Report]:
    """Syncs what is asked for; of the index, what the server is not known to have."""
    from trackkit.local_log import index
    from trackkit.sync.copies import by_run
    from trackkit.sync.group import is_verified
    from trackkit.sync.server_run import Server
    from trackkit.sync.target import find_targets

    if not runs:
        index.compact()
    targets, known = find_targets(runs), {Path(entry.folder).resolve(): entry for entry in index.entries()}
    if not targets:
        return []
    server = Server(patience)
    groups = by_run(targets, server.entity)
    if not runs:
        groups = [group for group in groups if not all(is_verified(each, server) for each in group)]
    reports = _sync_all(groups, server, bool(runs), watch, jobs, console)
    done = [report.target.folder for report in reports if report.verdict in ("complete", "unchanged")]
    index.mark([entry for folder in done if folder and (entry := known.get(folder.resolve()))], server.url)
    return reports


def _sync_all(
    groups: list[list[Target]], server: Server, asked: bool, watch: bool, jobs: int, console: Console
) -> list[Report]:
    """Syncs every run, the folders of one run one after another; a line for each step of each."""
    from trackkit.sync.group import sync_group

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        @contextmanager
        def telling(target: Target) -> Iterator[Callable[[str], None]]:
            task = progress.add_task(f"{target.run_id}: reading", total=None)

            def say(line: str) -> None:
                progress.update(task, description=f"{target.run_id}: {line}")
                console.print(f"{target.run_id}: {line}", soft_wrap=True, highlight=False, markup=False)

            try:
                yield say
            finally:
                progress.remove_task(task)

        # Runs that are followed last for as long as they train: all at once.
        with ThreadPoolExecutor(max(1, len(groups)) if watch else jobs) as pool, _stoppable(server):
            found = pool.map(lambda group: sync_group(group, server, asked, watch, telling), groups)
            return [report for reports in found for report in reports]


@contextmanager
def _stoppable(server: Server) -> Iterator[None]:
    """Ctrl-C, or SIGTERM, ends the uploads of all threads."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except BaseException:
        server.stopped.set()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(reports: list[Report], console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("run", "rows local", "server", "missing", "summary", "config", "console", "artifacts", "verdict"):
        table.add_column(name, justify="right" if name in ("rows local", "server", "missing") else "left", no_wrap=True)
    for report in reports:
        numbers = (report.rows, report.present, report.missing)
        style = _STYLES.get(report.verdict, "red")
        cells = [report.target.run_id, *(str(number) for number in numbers), report.summary, report.config]
        table.add_row(*cells, report.console, report.artifacts, f"[{style}]{report.verdict}[/]")
    if not console.is_terminal:
        # A batch job's log has no width: no cell is cut.
        console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)
    for report in reports:
        about = report.reason or report.url
        if about:
            console.print(f"{report.target.run_id}: {about}", soft_wrap=True, highlight=False, markup=False)
