"""`trackkit clean`: deletes the checkpoints of old runs that nothing needs, after it has shown them."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from trackkit.cli.common import ManyRuns, errors

if TYPE_CHECKING:
    from trackkit.sync.clean import Cleaned

_UNITS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


def clean(
    runs: ManyRuns = None,
    keep: Annotated[
        int | None,
        typer.Option(min=0, help="Checkpoints to keep, the newest of each collection of a run.", show_default=False),
    ] = None,
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="Only runs that ended at least so long ago, such as 12h, 30d or 2w.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, what would be deleted is shown.")] = False,
) -> None:
    """Shows which checkpoints of old runs W&B and TrackKit's staging need not keep, and with --yes deletes them.

    Only of runs that have ended and that `trackkit sync` has verified. Never best, latest, was-best, what is promoted,
    linked, used or has an alias of yours, what other runs logged, nor the framework's own files.
    """
    if keep is None and not older_than:
        raise typer.BadParameter("give --keep, --older-than or both")
    age_s = _seconds(older_than) if older_than else 0.0
    with errors():
        from trackkit.integrations.wandb.server import credentials
        from trackkit.sync.clean import Limits
        from trackkit.sync.clean import clean as clean_run
        from trackkit.sync.targets import find_targets
        from trackkit.sync.upload import require_wandb

        require_wandb()
        limits, server = Limits(keep or 0, age_s), credentials()[1]
        found = [clean_run(target, server, limits, yes) for target in find_targets(runs or [])]
        done = [each for each in found if each is not None]
        _print(done, yes)
        if any(each.has_failed for each in done):
            raise typer.Exit(1)


def _seconds(text: str) -> float:
    """Returns a time such as `30d` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text.strip())
    if match is None:
        raise typer.BadParameter(f"--older-than must be a number with h, d or w, such as 12h, 30d or 2w; got '{text}'")
    return float(match[1]) * _UNITS[match[2]]


def _print(done: Sequence[Cleaned], deleted: bool) -> None:
    from trackkit.reading.checkpoints import to_size
    from trackkit.reading.text_table import TextTable, joined, visible

    items = [(each.run_id, item) for each in done for item in each.items]
    if items:
        columns = {
            "run": [run_id for run_id, _ in items],
            "step": [str(item.entry.step) for _, item in items],
            "W&B": [to_size(item.entry.size) if item.version else "" for _, item in items],
            "here": [to_size(item.staged) if item.staged else "" for _, item in items],
            "version": [item.version for _, item in items],
        }
        table = TextTable(columns, right=("step", "W&B", "here"))
        if sys.stdout.isatty():
            table.fit(shutil.get_terminal_size().columns)
        for line in table.lines():
            typer.echo(joined(line))
    for each in done:
        if each.reason:
            said = "not all is done" if each.has_failed else "left alone"
            typer.echo(f"{visible(each.run_id)}: {said}: {visible(each.reason)}", err=each.has_failed)
    versions = [item.entry.size for _, item in items if item.version]
    staged = sum(item.staged for _, item in items)
    typer.echo(
        f"{'Deleted' if deleted else 'Would delete'}: {len(versions)} version{'s' * (len(versions) != 1)} in W&B "
        f"({to_size(sum(versions))}), {to_size(staged)} here."
        f"{' Nothing is deleted without --yes.' if items and not deleted else ''}"
    )
