"""Tables and curves in a terminal: rich for tables, plotext for curves, a table of points without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trackkit.reading.columns import plain
from trackkit.reading.curves import Curve, Floats, at_steps, buckets, log_spaced
from trackkit.reading.text_table import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Larger numbers overflow in plotext.
_LARGEST = 1e300
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
        console.width = max(console.width, *(width(console, each) for each in tables))


def width(console: Console, table: Table) -> int:
    """Returns how many cells a table takes where none of its lines is folded."""
    return console.measure(table, options=console.options.update(width=10_000)).maximum


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
        console.print(visible(title), style="bold", highlight=False, markup=False)
    if not finite:
        console.print("no finite values", style="dim")
        return
    try:
        import plotext  # noqa: F401 -- only whether it is there
    except ImportError:
        _print_points(finite, console)
        hint = "Curves are drawn with plotext: pip install 'trackkit[report]'"
        return console.print(hint, style="dim", markup=False, highlight=False)
    # Without colors, several curves could not be told apart.
    is_plain = console.no_color or not console.is_terminal
    drawn = "" if len(finite) > 1 and is_plain else _plot(finite, console, log)
    if not drawn:
        return _print_points(finite, console)
    console.print(_text(drawn))
    for name, of in curves.items():
        if lost := len(of) - len(of.finite):
            said = visible(f"{lost} of {len(of)} values of {name} are NaN or infinite.")
            console.print(said, style="yellow", markup=False, highlight=False)
    if len(finite) > 1:
        # plotext's own legend lies on the curves.
        for number, name in enumerate(finite):
            console.print(f"  ── {name}", style=_color(number), markup=False, highlight=False)


def _plot(curves: Mapping[str, Curve], console: Console, log: bool) -> str:
    """Returns finite curves as drawn by plotext; "" if their values are too large for it."""
    import plotext

    cells = max(30, min(console.width, 120))
    reduced = [(of.key, buckets(of, _POINTS_A_COLUMN * cells)) for of in curves.values()]
    means = [Curve(key, each.x, each.mean).finite for key, each in reduced]
    if not any(map(len, means)) or any(np.abs(of.y).max(initial=0.0) > _LARGEST for of in curves.values()):
        # The sums of such large values are infinite, and so is what a plot computes of them.
        return ""
    plotext.clear_figure()
    plotext.theme("clear" if not console.is_terminal else "pro")
    plotext.plot_size(cells, _HEIGHT)
    for number, of in enumerate(means):
        plotext.plot(of.x.tolist(), of.y.tolist(), marker="braille", color=_color(number))
    for axis, values in ((plotext.xticks, [of.x for of in means]), (plotext.yticks, [of.y for of in means])):
        ticks = _ticks(np.concatenate(values), log and axis == plotext.yticks)
        axis(ticks, [f"{tick:.6g}" for tick in ticks])
    if log:
        plotext.yscale("log")
    drawn = str(plotext.build())
    plotext.clear_figure()
    return drawn if console.is_terminal and not console.no_color else str(plotext.uncolorize(drawn))


def _color(number: int) -> str:
    return _COLORS[number % len(_COLORS)]


def _ticks(values: Floats, log: bool, most: int = 6) -> list[float]:
    """Returns round numbers in the range of values."""
    low, high = (float(np.log10(each)) if log else float(each) for each in (values.min(), values.max()))
    width = (high - low) / (most - 1)
    if not width > 0 or (log and high - low < 1):
        return [float(each) for each in np.unique([values.min(), values.max()])]
    unit = 10.0 ** np.floor(np.log10(width))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= width)
    step = max(1.0, np.round(step)) if log else step
    ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    # No tick is -0.
    return [float(tick) + 0.0 for tick in (10.0**ticks if log else ticks)]


def _print_points(curves: Mapping[str, Curve], console: Console) -> None:
    made = points(curves)
    fit(console, made)
    console.print(made)


def points(curves: Mapping[str, Curve], most: int = _ROWS) -> Table:
    """Returns curves as a table of log-spaced steps, from the first to the last."""
    steps = log_spaced(np.unique(np.concatenate([of.x for of in curves.values()])), most)
    values = {name: at_steps(of, steps) for name, of in curves.items()}
    rows = [[plain(float(step), 6), *(_cell(each[n]) for each in values.values())] for n, step in enumerate(steps)]
    headings = ["step", *curves]
    return table(headings, rows, frozenset(headings))


def _drawable(of: Curve, log: bool) -> Curve:
    finite = of.finite
    return Curve(of.key, finite.x[finite.y > 0], finite.y[finite.y > 0]) if log else finite


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else plain(float(value))


def _text(drawn: str) -> object:
    from rich.text import Text

    return Text.from_ansi("\n".join(map(str.rstrip, drawn.rstrip().splitlines())))
