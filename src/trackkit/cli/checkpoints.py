"""`trackkit checkpoints`: what became of each checkpoint of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from trackkit.cli.common import errors


def checkpoints(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id, run folder, or output folder of one run.")],
) -> None:
    """Shows which checkpoints of a run were saved, kept, uploaded and committed, their aliases, and what they take."""
    from trackkit.reading.checkpoints import checkpoint_table
    from trackkit.reading.runs import read_run
    from trackkit.reading.text_table import TextTable, joined

    with errors():
        columns, totals = checkpoint_table(read_run(run))
        if columns["step"]:
            for line in TextTable(columns, right=("step", "epoch", "value", "size"), whole=tuple(columns)).lines():
                typer.echo(joined(line))
        typer.echo(totals)
