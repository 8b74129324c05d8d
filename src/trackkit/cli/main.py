"""`trackkit`: the commands together."""

from __future__ import annotations

import typer

from trackkit.cli.sync import sync

app = typer.Typer(
    name="trackkit",
    help="Works on recorded runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def trackkit() -> None:
    """Works on recorded runs."""


app.command()(sync)

if __name__ == "__main__":
    app()
