"""`trackkit report`: one page of runs that opens without internet."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from trackkit.cli.common import ManyRuns, Where, errors, select


class AxisChoice(str, Enum):
    """The axes of curves."""

    step = "step"
    samples = "samples"
    tokens = "tokens"
    time = "time"


def report(
    runs: ManyRuns = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    where: Where = "",
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Metric to show; the first ranks the runs. Default: the main ones."),
    ] = None,
    group_by: Annotated[str, typer.Option(help="Show mean and deviation of the runs with the same value.")] = "",
    axis: Annotated[AxisChoice, typer.Option(help="Axis of the curves.")] = AxisChoice.step,
    smoothing: Annotated[
        float, typer.Option(min=0.0, max=0.9999, help="Weight of the past in the moving average.")
    ] = 0.0,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic y axes.")] = False,
    title: Annotated[str, typer.Option(help="Title of the page. Default: the project.")] = "",
    png: Annotated[bool, typer.Option("--png", help="Also write the charts as PNG beside the page.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Also write the charts as SVG beside the page.")] = False,
) -> None:
    """Writes one page with curves, a table, hyperparameters and each run's details; it opens without internet."""
    with errors():
        from trackkit.local_log.regular import ReadError
        from trackkit.reading.pictures import View
        from trackkit.reading.report import write_report

        found = select(runs or [])
        if where and found:
            chosen = found.filter(where)
            if not chosen:
                raise ReadError(f"none of {len(found)} runs matches '{where}'")
            found = chosen
        view = View(tuple(metric or ()), axis.value, smoothing, log, group_by)
        forms: Any = [form for form, asked in (("png", png), ("svg", svg)) if asked]
        done = write_report(found, output, view=view, title=title, forms=forms)
        typer.echo(
            f"Wrote '{done.path}': {done.runs} run{'s' * (done.runs != 1)}, "
            f"{len(done.metrics)} metric{'s' * (len(done.metrics) != 1)}, {done.size / 1e6:.1f} MB."
        )
        for picture in done.pictures:
            typer.echo(f"Wrote '{picture}'.")
        if done.left_out:
            typer.echo(f"Left out, for want of space: {', '.join(done.left_out)}. --metric puts one first.")
        if done.without_curves:
            typer.echo(f"{done.without_curves} runs are in the table only: curves are those of the best.")
