"""`trackkit`: the commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from trackkit.cli.checkpoints import checkpoints
from trackkit.cli.clean import clean
from trackkit.cli.compare import compare
from trackkit.cli.digest import digest
from trackkit.cli.doctor import doctor
from trackkit.cli.journal import journal
from trackkit.cli.ls import ls
from trackkit.cli.promote import promote
from trackkit.cli.report import report
from trackkit.cli.run import run
from trackkit.cli.show import show
from trackkit.cli.sync import sync
from trackkit.cli.whois import whois

app = typer.Typer(
    name="trackkit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"trackkit {version('trackkit')}")
        raise typer.Exit


@app.callback()
def trackkit(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Records what any command trains (`run`), and works on recorded runs."""


app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(run)
app.command()(ls)
app.command()(show)
app.command()(compare)
app.command()(digest)
app.command()(report)
app.command()(checkpoints)
app.command()(promote)
app.command()(whois)
app.command()(sync)
app.command()(clean)
app.command()(doctor)
app.add_typer(journal, name="journal")

if __name__ == "__main__":
    app()
