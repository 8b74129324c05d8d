"""`trackkit digest`: what went well, what went wrong, what to try."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from trackkit.cli.common import OneRun, errors


def digest(
    run: OneRun,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Says in at most 1,500 words of Markdown what went well in a run, what went wrong, and what to try."""
    from trackkit.reading.digest import digest as digest_of
    from trackkit.reading.digest_text import markdown
    from trackkit.reading.runs import neighbors, read_run

    with errors():
        found = read_run(run)
        said = digest_of(found, neighbors(found))
        typer.echo(json.dumps(said.to_json(), indent=1) if as_json else markdown(said), nl=as_json)
