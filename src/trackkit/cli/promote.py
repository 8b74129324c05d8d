"""`trackkit promote`: gives a run's best checkpoint an alias such as `production`."""

from __future__ import annotations

from typing import Annotated

import typer

from trackkit.cli.common import OneRun, errors


def promote(
    run: OneRun,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as `production`.")],
    registry: Annotated[
        str, typer.Option(help="Link to this collection, such as wandb-registry-model/resnet, with the alias there.")
    ] = "",
    checkpoint: Annotated[
        str, typer.Option(help="Which one: best, latest or step-N; of one collection, NAME:best.")
    ] = "best",
) -> None:
    """Moves an alias to a run's best checkpoint. Names the version that had it, and notes the move in its metadata.

    Without the server, or before the checkpoint is uploaded, `trackkit sync` does it.
    """
    from trackkit.reading.text_table import visible
    from trackkit.sync.promote import Promotion, promote_run

    with errors():
        for line in promote_run(run, Promotion(alias, registry.rstrip(":/"), checkpoint)):
            typer.echo(visible(line))
