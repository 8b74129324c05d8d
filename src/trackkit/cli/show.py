"""`trackkit show`: one page about a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from trackkit.cli.common import OneRun, errors

if TYPE_CHECKING:
    from rich.console import Console

    from trackkit.local_log.recorded import RecordedRun

_PAUSE_S = 2.0


def show(
    run: OneRun,
    watch: Annotated[bool, typer.Option("--watch", help="Follow a run that is still being written.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Draw losses on a logarithmic axis.")] = False,
) -> None:
    """Shows what a run is, how it stands, its results and curves, what may be wrong, and where its files are."""
    from rich.console import Console

    from trackkit.reading.runs import neighbors, read_run
    from trackkit.reading.terminal_page import print_page

    console = Console(highlight=False)
    with errors():
        found = read_run(run)
        if watch:
            found = _follow(found, run, console, log)
        print_page(found, neighbors(found), console, log)


def _follow(run: RecordedRun, word: str, console: Console, log: bool) -> RecordedRun:
    """Shows the page anew whenever the run has new rows; in a pipe, one line for each. Returns the run as it ended."""
    from trackkit.reading.runs import read_run
    from trackkit.reading.terminal_page import latest, print_page

    seen = -1
    while run.status == "running":
        began = time.monotonic()
        if len(run.rows) != seen:
            seen = len(run.rows)
            if console.is_terminal:
                console.clear()
                print_page(run, None, console, log)
            else:
                console.print(latest(run), markup=False, soft_wrap=True)
        # A long log takes a while to read: most of the time goes to the training.
        time.sleep(max(_PAUSE_S, 5 * (time.monotonic() - began)))
        # Another run may have begun in the same output folder.
        run = read_run(run.folder or word)
    if console.is_terminal:
        console.clear()
    return run
