"""`trackkit run`, as `trackkit --help` lists it."""

from __future__ import annotations

import typer


def run(context: typer.Context) -> None:
    """Runs any command with TrackKit available in its Python processes: `trackkit run --help`."""
    from trackkit.launch.command import run as replace_by

    raise typer.Exit(replace_by(list(context.args)))
