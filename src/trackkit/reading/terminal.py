"""Tables and curves in a terminal: rich for tables, plotext for curves, a table of points without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trackkit.reading.columns import plain
from trackkit.reading.curves import Curve, Floats, at_steps, buckets
from trackkit.reading.text_table import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLORS = ("blue", "red", "green", "magenta", "cyan", "yellow")
_HEIGHT = 14
# About two points a column: more of them smear.
_POINTS_A_COLUMN = 2
_ROWS = 12


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> Table:
    """Returns a table whose texts are shown as they are, whatever markup they contain.

    Args:
        headings: of the columns.
        rows: of cells.
        right: headings of the columns that are aligned to the right.
    """
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in headings:
        # Numbers are never cut; texts are folded.
        is_number = name in right
        made.add_column(
            escape(visible(name)), justify="right" if is_number else "left", no_wrap=is_number, overflow="fold"
        )
    for row in rows:
        made.add_row(*(escape(visible(cell)) for cell in row))
    return made


def fit(console: Console, *tables: Table) -> None:
    """Widens a console that writes to a pipe or a file, where no line has to be cut."""
    if not console.is_terminal:
        wide = console.options.update(width=10_000)
        console.width = max(console.width, *(console.measure(each, options=wide).maximum for each in tables))


def draw(curves: Mapping[str, Curve], console: Console, *, title: str = "", log: bool = False) -> None:
    """Draws curves in one frame; without plotext, prints a table of log-spaced points.

    Args:
        curves: by the name to show.
        console: where to.
        title: above the frame.
        log: whether the y axis is logarithmic; values that are not positive are then left out.
    """
    finite = {visible(name): found for name, of in curves.items() if len(found := _drawable(of, log))}
    if title:
        console.print(title, style="bold", highlight=False, markup=False)
    if not finite:
        console.print("no finite values", style="dim")
        return
    try:
        import plotext
    except ImportError:
        _print_points(finite, console)
        console.print("Curves are drawn with plotext: pip install 'trackkit[report]'", style="dim")
        return
    if len(finite) > 1 and (console.no_color or not console.is_terminal):
        # Without colors the curves could not be told apart.
        _print_points(finite, console)
        return
    width = max(30, min(console.width, 120))
    colors = [_COLORS[number % len(_COLORS)] for number in range(len(finite))]
    plotext.clear_figure()
    plotext.theme("clear" if not console.is_terminal else "pro")
    plotext.plot_size(width, _HEIGHT)
    for color, of in zip(colors, finite.values(), strict=True):
        reduced = buckets(of, _POINTS_A_COLUMN * width)
        plotext.plot(reduced.x.tolist(), reduced.mean.tolist(), marker="braille", color=color)
    ticks = _ticks(min(of.x[0] for of in finite.values()), max(of.x[-1] for of in finite.values()))
    plotext.xticks(ticks, [plain(tick, 6) for tick in ticks])
    if log:
        plotext.yscale("log")
    drawn = plotext.build()
    plotext.clear_figure()
    console.print(_text(drawn if console.is_terminal and not console.no_color else plotext.uncolorize(drawn)))
    if len(finite) > 1:
        # plotext's own legend lies on the curves.
        for color, name in zip(colors, finite, strict=True):
            console.print(f"  ── {name}", style=color, markup=False, highlight=False)


def _ticks(first: float, last: float, most: int = 6) -> list[float]:
    """Returns round numbers from first to last."""
    width = (last - first) / (most - 1)
    if not width > 0:
        return [float(first)]
    unit = 10.0 ** np.floor(np.log10(width))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= width)
    return [float(tick) for tick in np.arange(np.ceil(first / step), np.floor(last / step) + 1) * step]


def _print_points(curves: Mapping[str, Curve], console: Console) -> None:
    made = points(curves)
    fit(console, made)
    console.print(made)


def points(curves: Mapping[str, Curve], most: int = _ROWS) -> Table:
    """Returns curves as a table of log-spaced steps, from the first to the last."""
    steps = spread(np.unique(np.concatenate([of.x for of in curves.values()])), most)
    values = {name: at_steps(of, steps) for name, of in curves.items()}
    rows = [[plain(float(step), 6), *(_cell(each[n]) for each in values.values())] for n, step in enumerate(steps)]
    headings = ["step", *curves]
    return table(headings, rows, frozenset(headings))


def spread(steps: Floats, most: int = _ROWS) -> Floats:
    """Returns at most `most` of these rising steps, log-spaced, the first and the last among them."""
    if len(steps) <= most:
        return steps
    places = np.unique(np.geomspace(1, len(steps), most).round().astype(int)) - 1
    chosen: Floats = steps[places]
    return chosen


def _drawable(of: Curve, log: bool) -> Curve:
    finite = of.finite
    return Curve(of.key, finite.x[finite.y > 0], finite.y[finite.y > 0]) if log else finite


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else plain(float(value))


def _text(drawn: str) -> object:
    from rich.text import Text

    return Text.from_ansi("\n".join(map(str.rstrip, drawn.rstrip().splitlines())))
