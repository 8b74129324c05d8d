"""`trackkit journal`: keeps `JOURNAL.md` beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

journal = typer.Typer(
    help="Keeps JOURNAL.md beside the code: why runs were made and what came of them.", no_args_is_help=True
)
_File = Annotated[Path | None, typer.Option("--file", help="The journal. Default: JOURNAL.md in the git repository.")]


@journal.command()
def add(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id, run folder, or output folder of one run.")],
    text: Annotated[str, typer.Argument(help="Why the run was made, what happened.")],
    file: _File = None,
) -> None:
    """Appends an entry on a run: its figures and your text. The run's notes link back to it."""
    from trackkit.cli.common import errors
    from trackkit.reading.journal import add_entry, journal_path
    from trackkit.reading.runs import read_run

    with errors():
        path = file or journal_path()
        add_entry(path, read_run(run), text)
        typer.echo(f"Added to '{path}'.")


@journal.command()
def stubs(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Folders or runs. Default: all your runs.", show_default=False),
    ] = None,
    file: _File = None,
) -> None:
    """Appends figures of each group that has ended and is not in the journal. Changes no line that is there."""
    from trackkit.cli.common import errors
    from trackkit.reading.journal import add_stubs, journal_path
    from trackkit.reading.runs import runs as open_runs

    with errors():
        path = file or journal_path()
        added = add_stubs(path, open_runs(runs or None))
        typer.echo(f"Added to '{path}': {', '.join(added)}." if added else f"'{path}' has every group that has ended.")
