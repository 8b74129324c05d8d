"""Charts of runs as Vega-Lite, by Altair: the page draws them in the browser, `picture` without one.

Runs share one ordered colour scale: the better the run, the nearer its colour to the scale's end.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from trackkit.local_log.regular import ReadError
from trackkit.reading.curves import Floats

Theme = Literal["light", "dark"]

# From the worst run to the best; on a dark ground the best is the brightest.
SCALES: Mapping[Theme, Sequence[str]] = {
    "light": ("#d99a1c", "#7fa43a", "#2a9486", "#2c6aa8", "#3d2a86"),
    "dark": ("#5a5fb0", "#3f8fc4", "#2fb5a3", "#8fd35f", "#fde25a"),
}
WITHOUT_RANK: Mapping[Theme, str] = {"light": "#9aa1ab", "dark": "#6b7280"}
_INK: Mapping[Theme, Mapping[str, str]] = {
    "light": {"text": "#2b2f36", "muted": "#6b7280", "grid": "#eceef1", "bad": "#c8322b", "back": "#ffffff"},
    "dark": {"text": "#dfe3ea", "muted": "#9aa3b2", "grid": "#2a2f38", "bad": "#ff7b72", "back": "#171a1f"},
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
_DIM = 0.75
_GLOBAL = "window.vegaEmbed = vegaEmbed;"
_NUMBER = "abs(datum.value) >= 1e4 ? format(datum.value, '~s') : format(datum.value, '~g')"
_GRID = 200


@dataclass(frozen=True)
class Line:
    """A line of a chart: a run, or the mean of a group of runs.

    Attributes:
        number: of the run or the group.
        color: as `#rrggbb`.
        x, y: points; shape [n]. A NaN in y breaks the line.
        least, most: of the band around it; empty without a band.
        bad: positions of values that are NaN or infinite.
        name: of the run or the group.
    """

    number: int
    color: str
    x: Floats
    y: Floats
    least: Floats = field(default_factory=lambda: np.empty(0))
    most: Floats = field(default_factory=lambda: np.empty(0))
    bad: Floats = field(default_factory=lambda: np.empty(0))
    name: str = ""


def color(place: float | None, theme: Theme = "light") -> str:
    """Returns the colour of a run by its place from 0 (the worst) to 1 (the best); gray for a run without one."""
    if place is None:
        return WITHOUT_RANK[theme]
    stops = [[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in SCALES[theme]]
    at = np.linspace(0, 1, len(stops))
    mixed = [round(float(np.interp(place, at, [stop[part] for stop in stops]))) for part in range(3)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def group_line(number: int, color: str, name: str, members: Sequence[Line]) -> Line:
    """Returns the mean of lines, with a band of one standard deviation (n - 1) where two of them have values.

    The lines are read between their points by linear interpolation, never beyond their ends.
    """
    kept = [(line.x[np.isfinite(line.y)], line.y[np.isfinite(line.y)]) for line in members]
    kept = [(x, y) for x, y in kept if len(x)]
    x = np.unique(np.concatenate([x for x, _ in kept])) if kept else np.empty(0)
    if len(x) > 2 * _GRID:
        x = np.linspace(x[0], x[-1], _GRID)
    values = np.array([np.interp(x, at, y, left=np.nan, right=np.nan) for at, y in kept]).reshape(len(kept), len(x))
    known = np.isfinite(values)
    count = known.sum(axis=0)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0)
    spread = np.sqrt(squares / np.maximum(count - 1, 1))
    bad = np.concatenate([line.bad for line in members]) if members else np.empty(0)
    return Line(number, color, x, mean, mean - spread, mean + spread, bad, name)


def curve_chart(log: bool = False, domain: Sequence[float] | None = None, width: int = 420, height: int = 230) -> Any:
    """Returns a chart of lines with bands and marks, without data.

    Its data sets are `lines` and `front` (fields r, x, y, c: number, point, colour), `band` (r, x, lo, hi, c) and
    `marks` (x, n: where values are NaN or infinite, and how many).

    Args:
        log: whether the y axis is logarithmic.
        domain: first and last x and y of the axes. Default: the parameters `xmin`, `xmax`, `ymin`, `ymax`, which a page
            sets, as it does `dim`, the opacity of `lines`.
        width, height: in pixels.
    """
    alt = _altair()
    names = ("xmin", "xmax", "ymin", "ymax")
    ends = [alt.ExprRef(name) for name in names] if domain is None else list(domain)
    # Both ends are set: a logarithmic axis would grow to whole decades.
    across = alt.Scale(domain=ends[:2], nice=False, zero=False)
    kind: Literal["log", "linear"] = "log" if log else "linear"
    up = alt.Scale(type=kind, domain=ends[2:], nice=False, **({} if log else {"zero": False}))
    x = alt.X("x:Q", scale=across, title=None, axis=alt.Axis(labelExpr=_NUMBER, tickCount=5, labelFlush=True))
    tidy = alt.Axis(labelExpr=_NUMBER, tickCount=4 if log else 5, labelOverlap=True)
    y = alt.Y("y:Q", scale=up, title=None, axis=tidy)
    paint, run = alt.Color("c:N", scale=None, legend=None), alt.Detail("r:N")
    opacity = alt.ExprRef("dim") if domain is None else _DIM

    def line(data: str, **look: Any) -> Any:
        mark = {"clip": True, "invalid": "break-paths-filter-domains", "strokeJoin": "round", **look}
        return alt.Chart(alt.NamedData(data)).mark_line(**mark).encode(x=x, y=y, color=paint, detail=run)

    band = (
        alt.Chart(alt.NamedData("band"))
        .mark_area(clip=True, opacity=0.18)
        .encode(x=x, y=alt.Y("lo:Q", scale=up, title=None, axis=tidy), y2="hi:Q", color=paint, detail=run)
    )
    marks = (
        alt.Chart(alt.NamedData("marks"))
        .mark_point(shape="cross", angle=45, size=36, filled=True, opacity=1, clip=False, yOffset=-7)
        .encode(x=x, y=alt.value(height if domain is not None else alt.ExprRef("height")), color=paint)
    )
    layers = alt.layer(band, line("lines", strokeWidth=1.25, opacity=opacity), line("front", strokeWidth=2.2), marks)
    if domain is None:
        start = (0.0, 1.0, 0.0, 1.0) if not log else (0.0, 1.0, 0.1, 1.0)
        layers = layers.add_params(
            *(alt.param(name=name, value=value) for name, value in zip(names, start, strict=True)),
            alt.param(name="dim", value=_DIM),
        )
    return layers.properties(width=width, height=height)


def parallel_chart(count: int, width: int = 860, height: int = 260) -> Any:
    """Returns parallel coordinates, without data: a straight line per run over an axis per column.

    Its data sets are `lines` and `front` (r, dim, pos, c: number of the run, number of the column, place from 0 to 1,
    colour), `ticks` (dim, pos, label) and `heads` (dim, label).

    Args:
        count: of the columns.
        width, height: in pixels.
    """
    alt = _altair()
    across = alt.Scale(domain=[-0.04 * count, count - 1 + 0.16 * max(1, count - 1) * 0.6], nice=False)
    x = alt.X("dim:Q", scale=across, axis=None)
    y = alt.Y("pos:Q", scale=alt.Scale(domain=[0, 1]), axis=None)
    paint, run = alt.Color("c:N", scale=None, legend=None), alt.Detail("r:N")

    def line(data: str, **look: Any) -> Any:
        chart = alt.Chart(alt.NamedData(data)).mark_line(strokeJoin="round", **look)
        return chart.encode(x=x, y=y, color=paint, detail=run, order="dim:Q")

    def text(data: str, **look: Any) -> Any:
        return alt.Chart(alt.NamedData(data)).mark_text(**look).encode(x=x, text="label:N")

    rules = alt.Chart(alt.NamedData("heads")).mark_rule(strokeWidth=1, opacity=0.5).encode(x=x)
    # A halo keeps the labels readable above the lines.
    label = {"align": "left", "dx": 6, "fontSize": 11, "limit": 0.85 * width / count}
    halo = text("ticks", style="halo", **label).encode(y=y)
    ticks = text("ticks", **label).encode(y=y)
    heads = text("heads", baseline="bottom", dy=-14, fontSize=11, fontWeight=600, align="left", limit=width / count)
    heads = heads.encode(y=alt.value(0))
    opacity = alt.ExprRef("dim")
    layers = alt.layer(
        line("lines", strokeWidth=1.25, opacity=opacity), line("front", strokeWidth=2.4), rules, halo, ticks, heads
    )
    return layers.add_params(alt.param(name="dim", value=_DIM)).properties(width=width, height=height)


def legend(entries: Sequence[tuple[str, str]], width: int = 860) -> dict[str, Any]:
    """Returns a chart with a dot in a colour and a text for each entry, one below the other."""
    alt = _altair()
    rows = [{"n": number, "c": paint, "label": text} for number, (paint, text) in enumerate(entries)]
    base = alt.Chart(alt.NamedData("entries")).encode(y=alt.Y("n:O", axis=None))
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x=alt.value(5), color=alt.Color("c:N", scale=None))
    texts = base.mark_text(align="left", fontSize=11, limit=width - 20).encode(x=alt.value(16), text="label:N")
    made: dict[str, Any] = alt.layer(dots, texts).properties(width=width, height=18 * len(rows)).to_dict()
    return {**{name: made[name] for name in ("layer", "width", "height")}, "data": {"values": rows}}


def look(theme: Theme) -> dict[str, Any]:
    """Returns Vega-Lite's configuration for a theme."""
    ink = _INK[theme]
    axis = {"gridColor": ink["grid"], "domain": False, "ticks": False, "labelColor": ink["muted"], "labelFontSize": 11}
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {**axis, "labelPadding": 6, "titleColor": ink["muted"], "titleFontWeight": "normal"},
        "axisX": {"grid": False, "domain": True, "domainColor": ink["grid"], "labelOverlap": True},
        "rule": {"color": ink["muted"]},
        "text": {"color": ink["text"]},
        "title": {"color": ink["text"], "fontSize": 13, "fontWeight": 600, "anchor": "start", "offset": 8},
        "style": {"halo": {"stroke": ink["back"], "strokeWidth": 4, "color": ink["back"]}},
    }


def lines_data(lines: Sequence[Line], log: bool) -> tuple[dict[str, list[dict[str, Any]]], list[float]]:
    """Returns the data sets of `curve_chart`, and its domain; a logarithmic axis has only points above 0."""
    data: dict[str, list[dict[str, Any]]] = {"lines": [], "front": [], "band": [], "marks": []}
    for line in lines:
        common = {"r": line.number, "c": line.color}
        shown = line.y > 0 if log else np.isfinite(line.y)
        data["lines"] += [
            {**common, "x": x, "y": y if kept else None}
            for x, y, kept in zip(line.x.tolist(), line.y.tolist(), shown.tolist(), strict=True)
        ]
        if len(line.least):
            points = zip(line.x.tolist(), line.least.tolist(), line.most.tolist(), strict=True)
            data["band"] += [{**common, "x": x, "lo": lo, "hi": hi} for x, lo, hi in points]
        data["marks"] += [{**common, "x": x} for x in line.bad.tolist()]
    xs = [row["x"] for name in ("lines", "marks") for row in data[name]]
    ys = [row["y"] for row in data["lines"] if row["y"] is not None]
    ys += [row[end] for row in data["band"] for end in ("lo", "hi") if not log or row[end] > 0]
    low, high = domain(ys, log)
    for row in data["band"]:
        row["lo"], row["hi"] = max(row["lo"], low), max(row["hi"], low)
    return data, [min(xs, default=0.0), max(xs, default=1.0), low, high]


def domain(values: Sequence[float], log: bool) -> tuple[float, float]:
    """Returns the ends of an axis: those of the values and 4% more, so that no line lies on the frame."""
    if not values:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = min(values), max(values)
    if log:
        room = (high / low) ** 0.04 if high > low else 2.0
        return low / room, high * room
    room = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    return low - room, high + room


def picture(spec: Mapping[str, Any], form: Literal["png", "svg"], theme: Theme = "light") -> bytes:
    """Draws a specification without a browser.

    Args:
        spec: in Vega-Lite.
        form: `png` (at twice the pixels) or `svg`.
        theme: of the colours.

    Raises:
        ReadError: the extra `report` is not installed.
    """
    import vl_convert

    config = {**look(theme), "background": _INK[theme]["back"], "padding": 16, "font": "Liberation Sans, sans-serif"}
    whole = {**spec, "config": config}
    version = _version()
    if form == "png":
        return bytes(vl_convert.vegalite_to_png(whole, vl_version=version, scale=2))
    return str(vl_convert.vegalite_to_svg(whole, vl_version=version)).encode()


@functools.cache
def bundle() -> str:
    """Returns Vega, Vega-Lite and the embedder as one script, which sets `vegaEmbed`.

    Raises:
        ReadError: the extra `report` is not installed.
    """
    _altair()
    import vl_convert

    return vl_convert.javascript_bundle(_GLOBAL, vl_version=_version())


def _version() -> str:
    """Returns the version of Vega-Lite that Altair writes: `6.1`."""
    return str(_altair().SCHEMA_VERSION).removeprefix("v").rpartition(".")[0]


def _altair() -> Any:
    try:
        import altair
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise ReadError(
            f"a report needs {error.name}, which is not installed. Run: pip install 'trackkit[report]'"
        ) from error
    return altair
