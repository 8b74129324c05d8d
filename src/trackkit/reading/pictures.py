"""A report's charts as one picture, drawn without a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trackkit.reading import charts
from trackkit.reading.collection import Runs
from trackkit.reading.curves import Axis
from trackkit.reading.page_data import RunPage
from trackkit.reading.parallel import Dimension, axes_data, short_name

# Lines named in a picture.
_LEGEND = 6


@dataclass(frozen=True)
class View:
    """What the page shows when it opens, and the pictures show.

    Attributes:
        metrics: keys; empty: the main ones.
        axis: of the curves.
        smoothing: weight of the past, from 0 to below 1.
        log: whether the y axes are logarithmic.
        group_by: column whose groups of runs become one line; "" for a line per run.
    """

    metrics: Sequence[str] = ()
    axis: Axis = "step"
    smoothing: float = 0.0
    log: bool = False
    group_by: str = ""


def picture_spec(
    title: str,
    runs: Runs,
    pages: Sequence[RunPage],
    keys: Sequence[str],
    view: View,
    ranked: Sequence[float | None],
    groups: Mapping[str, Sequence[str | None]],
    dims: Sequence[Dimension],
) -> dict[str, Any]:
    """Returns all charts of the page as one specification, with the names of the best runs or groups above."""
    colors = [charts.color(place) for place in ranked]
    names = [run.name or run.run_id for run in runs]
    cells, drawn = [], dict[int, charts.Line]()
    for key in keys:
        lines = [
            _line(number, colors[number], names[number], page, key, view)
            for number, page in enumerate(pages)
            if key in page.metrics and view.axis in page.axes[key]
        ]
        if view.group_by:
            lines = _grouped(lines, view.group_by, groups[view.group_by], ranked)
        drawn.update({line.number: line for line in lines})
        sets, domain = charts.lines_data(lines, view.log)
        cell = charts.curve_chart(view.log, domain).to_dict()
        cells.append(_with_data({**cell, "title": key}, sets))
    parts: list[dict[str, Any]] = []
    if cells:
        best_first = sorted(
            drawn, key=lambda n: -float(n if view.group_by else -1.0 if (at := ranked[n]) is None else at)
        )
        entries = [(drawn[number].color, drawn[number].name) for number in best_first[:_LEGEND]]
        if len(drawn) > _LEGEND:
            entries.append((drawn[best_first[-1]].color, f"{drawn[best_first[-1]].name} (the last of {len(drawn)})"))
        parts = [charts.legend(entries), {"concat": cells, "columns": min(2, len(cells)), "spacing": 28}]
    params = []
    if dims:
        rows = [
            {"r": r, "dim": n, "pos": each.places[r], "c": colors[r]}
            for r in range(len(runs))
            for n, each in enumerate(dims)
            if each.places[r] is not None
        ]
        sides = axes_data(dims) or {}
        sets = {"lines": rows, "front": [], "heads": sides["heads"], "ticks": sides["ticks"]}
        below = _with_data(charts.parallel_chart(len(dims)).to_dict(), sets)
        params = below.pop("params")
        parts.append(below)
    return {"title": {"text": title, "fontSize": 18}, "vconcat": parts, "spacing": 32, "params": params}


def _with_data(spec: dict[str, Any], sets: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a chart whose layers have their data themselves, so that several can be drawn in one."""
    layers = [{**layer, "data": {"values": sets[layer["data"]["name"]]}} for layer in spec["layer"]]
    kept = {name: value for name, value in spec.items() if name not in ("config", "$schema", "data", "datasets")}
    return {**kept, "layer": layers}


def _line(number: int, color: str, name: str, page: RunPage, key: str, view: View) -> charts.Line:
    of, x = page.metrics[key], page.axes[key][view.axis]
    return charts.Line(number, color, x, of.smoothed(view.smoothing), bad=x[of.nonfinite > 0], name=name)


def _grouped(
    lines: Sequence[charts.Line], by: str, of: Sequence[str | None], ranked: Sequence[float | None]
) -> list[charts.Line]:
    """Returns one line per group; the better its runs are on average, the nearer its color to the scale's end."""
    members: dict[str, list[int]] = {}
    for number, name in enumerate(of):
        members.setdefault(name or "-", []).append(number)
    means = {
        name: [place for number in numbers if (place := ranked[number]) is not None]
        for name, numbers in members.items()
    }
    order = sorted(members, key=lambda name: float(np.mean(means[name])) if means[name] else -1.0)
    found = []
    for number, name in enumerate(order):
        kept = [line for line in lines if line.number in members[name]]
        if kept:
            paint = charts.color(number / (len(order) - 1) if len(order) > 1 else 1.0)
            found.append(charts.group_line(number, paint, f"{short_name(by)} {name} (n={len(kept)})", kept))
    return found
