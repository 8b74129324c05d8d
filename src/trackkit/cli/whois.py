"""`trackkit whois`: what is behind a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from trackkit.cli.common import errors


def whois(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="RUN:best, RUN:step-120, entity/project/model-name:v3, or the path or URL of a checkpoint saved here.",
        ),
    ],
) -> None:
    """Shows the run behind a checkpoint: settings, commit, data, results, the runs it came from and that used it."""
    from trackkit.reading.columns import plain
    from trackkit.reading.text_table import visible
    from trackkit.reading.whois import whois as find

    with errors():
        origin = find(checkpoint)
    parts: dict[str, Mapping[str, Any]] = {
        "Checkpoint": origin.checkpoint,
        "Run": origin.run,
        "Code": origin.code,
        "Data": origin.data,
        "Settings": origin.settings,
        "Results": {name: _result(*values) for name, values in origin.results.items()},
        "Lineage": {"parents": origin.parents or "none", "used by": ", ".join(origin.users) or "none"},
    }
    for heading, values in parts.items():
        if values:
            typer.secho(heading, bold=True)
        width = max(map(len, values), default=0)
        for name, value in values.items():
            typer.echo(f"  {visible(name):{width}}  {visible(value if isinstance(value, str) else plain(value))}")
    for sentence in origin.missing:
        typer.secho(visible(sentence), dim=True)


def _result(last: Any, best: Any, step: Any) -> str:
    from trackkit.reading.columns import plain

    return f"last {plain(last)}" + (f", best {plain(best)} at step {plain(step)}" if best not in (None, "") else "")
