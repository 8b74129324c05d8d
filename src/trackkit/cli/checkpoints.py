"""`trackkit checkpoints`: what became of each checkpoint of a run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from trackkit.cli.common import OneRun, errors
from trackkit.local_log.strict import strict

if TYPE_CHECKING:
    from trackkit.reading.checkpoints import SavedCheckpoint

_RIGHT = ("step", "epoch", "value", "size")


def checkpoints(
    run: OneRun,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shows which checkpoints of a run were saved, where they are, their state and aliases in W&B, and what they take.

    Of a run that only a server knows, its versions there.
    """
    from trackkit.reading.checkpoints import saved_checkpoints, totals
    from trackkit.reading.runs import read_run

    with errors():
        found = saved_checkpoints(read_run(run))
        if as_json:
            typer.echo(json.dumps([strict(each.fields) for each in found], indent=1))
            return
        for collection in dict.fromkeys(each.entry.collection for each in found):
            _print_collection([each for each in found if each.entry.collection == collection])
        for line in totals(found):
            typer.echo(line)


def _print_collection(saved: Sequence[SavedCheckpoint]) -> None:
    """Prints a heading, a line for each checkpoint, and why some are not kept."""
    from trackkit.reading.text_table import TextTable, joined, visible

    about = dict.fromkeys(f"{each.entry.metric} ({each.entry.goal})" for each in saved if each.entry.metric)
    places = [each.path for each in saved if each.path and not each.entry.is_remote]
    folder = os.path.commonpath(map(os.path.dirname, places)) if places else "/"
    typer.secho(visible(", ".join([saved[0].entry.collection, *about])), bold=True)
    if places:
        typer.echo(visible(f"files in {folder}"))
    columns = _columns(saved, folder)
    table = TextTable({name: cells for name, cells in columns.items() if any(cells)}, _RIGHT, ("state", "version"))
    if sys.stdout.isatty():
        table.fit(shutil.get_terminal_size().columns, ("epoch",))
    for line in table.lines():
        typer.echo(joined(line))
    reasons: dict[str, list[str]] = {}
    for each in saved:
        if each.entry.reason:
            reasons.setdefault(f"{each.entry.state}, {each.entry.reason}", []).append(str(each.entry.step))
        for what in each.entry.waiting:
            reasons.setdefault(f"{what} waits for `trackkit sync`", []).append(str(each.entry.step))
        for was in each.entry.was:
            reasons.setdefault(was, []).append(str(each.entry.step))
    for reason, steps in reasons.items():
        few = ", ".join(steps[:5]) + (f" and {len(steps) - 5} more" if len(steps) > 5 else "")
        typer.echo(visible(f"{reason}: step{'s' * (len(steps) > 1)} {few}"))
    typer.echo()


def _columns(saved: Sequence[SavedCheckpoint], folder: str) -> dict[str, list[str]]:
    from trackkit.reading.checkpoints import to_size

    entries = [each.entry for each in saved]
    names = [[alias for alias in each.aliases if alias != f"step-{each.entry.step}"] for each in saved]
    return {
        "step": [str(each.step) for each in entries],
        "epoch": ["" if each.epoch is None else f"{each.epoch:.4g}" for each in entries],
        "value": ["" if each.value is None else f"{each.value:.5g}" for each in entries],
        "size": [to_size(each.size) if each.files else "" for each in entries],
        "state": [each.state for each in entries],
        "version": [each.version.rpartition(":")[2] for each in entries],
        "aliases": [", ".join(each) for each in names],
        "file": [
            (each.path if each.entry.is_remote else os.path.relpath(each.path, folder))
            if each.path
            else f"staging {os.path.basename(each.staging)}"
            if each.staging
            else ""
            for each in saved
        ],
    }
