"""`trackkit sync`: brings runs to the W&B server, and verifies that all of each has arrived."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from trackkit.errors import TrackKitError
from trackkit.local_log import index
from trackkit.redaction.patterns import mask
from trackkit.sync.job import Job
from trackkit.sync.ledger import Ledger
from trackkit.sync.report import Report
from trackkit.sync.server_run import Server
from trackkit.sync.targets import Target, find_targets
from trackkit.sync.upload import require_wandb

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
    console = Console()
    try:
        reports = _sync(runs or [], watch, patience, jobs, console)
    except TrackKitError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(mask(str(error)))}", soft_wrap=True, highlight=False)
        raise typer.Exit(_FAILED) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. What was uploaded stays; run the same command again to continue.")
        raise typer.Exit(_CTRL_C) from None
    _show(reports, console)
    if not all(report.is_verified or report.verdict == "running" for report in reports):
        raise typer.Exit(_FAILED)


def _sync(runs: list[str], watch: bool, patience: float, jobs: int, console: Console) -> list[Report]:
    """Syncs the runs asked for; by default those of the index that were not verified yet."""
    if not runs:
        index.compact()
    found = find_targets(runs)
    if not found:
        return []
    require_wandb()
    server = Server(patience)
    targets = found if runs else [target for target in found if not Ledger(target, server.url).verified()]
    copies = _copies(found, server.entity)
    reports = _sync_all([target for target in targets if target not in copies], server, watch, jobs, console)
    for target in targets:
        if target in copies:
            named = ", ".join(f"'{each.folder or each.root}'" for each in copies[target])
            reason = f"the run has several folders: {named}. Sync the one that you mean by its path."
            reports.append(Report(target, "failed", reason))
    done = {each.target.folder.resolve() for each in reports if each.target.folder and each.is_verified}
    index.mark([entry for entry in index.entries() if Path(entry.folder).resolve() in done], server.url)
    return reports


def _copies(found: list[Target], entity: str) -> dict[Target, list[Target]]:
    """Returns the runs that have several folders, each with all of them: only the user knows which one is the run."""
    ids, places = Counter(each.run_id for each in found), defaultdict[str, list[Target]](list)
    for each in found:
        # The sync of a run reports what of it can't be read.
        with suppress(TrackKitError, OSError):
            # Where it belongs is read from all its files.
            if ids[each.run_id] > 1:
                places[each.path(entity)].append(each)
    return {each: same for same in places.values() if len(same) > 1 for each in same}


def _sync_all(targets: list[Target], server: Server, watch: bool, jobs: int, console: Console) -> list[Report]:
    """Syncs every run, and prints a line for each step of each."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
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
    if not reports:
        return console.print("Nothing to sync: all your runs are on the server.")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("run", "rows local", "server", "missing", "summary", "config", "artifacts", "verdict"):
        table.add_column(name, justify="right" if name in ("rows local", "server", "missing") else "left", no_wrap=True)
    for each in reports:
        cells = (each.target.run_id, each.rows, each.present, each.missing, each.summary, each.config, each.artifacts)
        table.add_row(*(escape(str(cell)) for cell in cells), f"[{_STYLES.get(each.verdict, 'red')}]{each.verdict}[/]")
    if not console.is_terminal:
        # A batch job's log has no width: no cell is cut.
        console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)
    for each in reports:
        if about := each.reason or each.url:
            console.print(f"{each.target.run_id}: {mask(about)}", soft_wrap=True, highlight=False, markup=False)
