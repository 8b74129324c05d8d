"""`trackkit sync`: brings runs to the W&B server, and verifies that all of each has arrived."""

from __future__ import annotations

import signal
from collections.abc import Iterator
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
    from trackkit.sync.report import Report
    from trackkit.sync.server_run import Server
    from trackkit.sync.targets import Target

_STYLES = {"complete": "green", "unchanged": "green", "running": "yellow"}
_FAILED = 1
_CTRL_C = 130


def sync(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run id, run folder, output folder or W&B's folder of a run. Default: all your unsynced runs.",
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
    """Uploads runs that were recorded offline or broke off, and verifies rows, summary, config and artifacts.

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
        Console(stderr=True).print("Stopped. What was uploaded stays; run the same command again to continue.")
        raise typer.Exit(_CTRL_C) from None
    if reports:
        _show(reports, console)
    else:
        console.print("Nothing to sync: all your runs are on the server.")
    if not all(report.is_good for report in reports):
        raise typer.Exit(_FAILED)


def _sync(runs: list[str], watch: bool, patience: float, jobs: int, console: Console) -> list[Report]:
    """Syncs the runs asked for; by default those of the index that were not verified yet."""
    from trackkit.local_log import index
    from trackkit.sync.job import is_verified
    from trackkit.sync.report import Report
    from trackkit.sync.server_run import Server
    from trackkit.sync.targets import find_targets, several_folders
    from trackkit.sync.upload import require_wandb

    if not runs:
        index.compact()
    targets, known = find_targets(runs), {Path(entry.folder).resolve(): entry for entry in index.entries()}
    if not targets:
        return []
    require_wandb()
    server = Server(patience)
    several = several_folders(targets, server.entity)
    if not runs:
        targets = [target for target in targets if not is_verified(target, server)]
    reports = _sync_all([target for target in targets if target not in several], server, watch, jobs, console)
    for target in targets:
        if target in several:
            named = ", ".join(f"'{each.folder or each.root}'" for each in several[target])
            reason = f"the run has several folders: {named}. Sync the one that you mean by its path."
            reports.append(Report(target, "failed", reason))
    done = [report.target.folder for report in reports if report.verdict in ("complete", "unchanged")]
    index.mark([entry for folder in done if folder and (entry := known.get(folder.resolve()))], server.url)
    return reports


def _sync_all(targets: list[Target], server: Server, watch: bool, jobs: int, console: Console) -> list[Report]:
    """Syncs every run, and prints a line for each step of each."""
    from trackkit.sync.job import Job

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def sync_one(target: Target) -> Report:
            task = progress.add_task(f"{target.run_id}: reading", total=None)

            def say(line: str) -> None:
                progress.update(task, description=f"{target.run_id}: {line}")
                console.print(f"{target.run_id}: {line}", soft_wrap=True, highlight=False, markup=False)

            try:
                return Job(target, server, say).sync(watch)
            finally:
                progress.remove_task(task)

        # A run that is followed keeps its thread as long as it trains: one thread for each.
        with ThreadPoolExecutor(max(1, len(targets)) if watch else jobs) as pool, _stoppable(server):
            return list(pool.map(sync_one, targets))


@contextmanager
def _stoppable(server: Server) -> Iterator[None]:
    """Ends the uploads of all threads at Ctrl-C and SIGTERM."""
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
    for name in ("run", "rows local", "server", "missing", "summary", "config", "artifacts", "verdict"):
        table.add_column(name, justify="right" if name in ("rows local", "server", "missing") else "left", no_wrap=True)
    for report in reports:
        numbers = (report.rows, report.present, report.missing)
        style = _STYLES.get(report.verdict, "red")
        cells = [report.target.run_id, *(str(number) for number in numbers), report.summary, report.config]
        table.add_row(*cells, report.artifacts, f"[{style}]{report.verdict}[/]")
    if not console.is_terminal:
        # A batch job's log has no width: no cell is cut.
        console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)
    for report in reports:
        if about := report.reason or report.url:
            console.print(f"{report.target.run_id}: {about}", soft_wrap=True, highlight=False, markup=False)
