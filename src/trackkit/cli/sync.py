"""`trackkit sync`: brings runs to the W&B server, and verifies that all of each has arrived."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from trackkit.integrations.wandb.api import Server
    from trackkit.sync.target import Target
    from trackkit.sync.verdict import Report

_STYLES = {"complete": "green", "unchanged": "green", "running": "yellow", "skipped": "yellow"}
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
    from trackkit import index
    from trackkit.errors import TrackKitError
    from trackkit.integrations.wandb.api import Server
    from trackkit.sync.ledger import Ledger
    from trackkit.sync.target import find_targets

    console = Console()
    try:
        targets = find_targets(runs or [])
        server = Server(patience)
        if not runs:
            index.compact()
            targets = [target for target in targets if not Ledger(target, server.url).verified()]
        if not targets:
            console.print("Nothing to sync: every run of the index is on the server.")
            return
        reports = _sync_all(targets, server, watch, jobs, console)
    except TrackKitError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(_FAILED) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. What was uploaded stays; the same command goes on from there.")
        raise typer.Exit(_CTRL_C) from None
    _show(reports, console)
    if not all(report.good for report in reports):
        raise typer.Exit(_FAILED)


def _sync_all(targets: list[Target], server: Server, watch: bool, jobs: int, console: Console) -> list[Report]:
    """Syncs every run; a line for each step of each."""
    from trackkit.sync.job import Job

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def one(target: Target) -> Report:
            task = progress.add_task(f"{target.run_id}: reading", total=None)

            def say(line: str) -> None:
                progress.update(task, description=f"{target.run_id}: {line}")
                console.print(f"{target.run_id}: {line}", soft_wrap=True, highlight=False, markup=False)

            try:
                return Job(target, server, say).sync(watch)
            finally:
                progress.remove_task(task)

        # Runs that are followed last for as long as they train: all at once.
        with ThreadPoolExecutor(len(targets) if watch else jobs) as pool, _stoppable(server):
            return list(pool.map(one, targets))


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
    console.print(table)
    for report in reports:
        about = report.reason or report.url
        if about:
            console.print(f"{report.target.run_id}: {about}", soft_wrap=True, highlight=False, markup=False)
