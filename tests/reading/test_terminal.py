"""Curves in a terminal: drawn whatever their values, and a table where they can't be drawn."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from numpy.typing import ArrayLike
from rich.console import Console

from trackkit.reading.curves import Curve
from trackkit.reading.terminal import draw

STEPS = np.arange(1, 2001.0)
FALLING = 2 * np.exp(-STEPS / 400)


def curve(y: ArrayLike, x: ArrayLike = STEPS) -> Curve:
    return Curve("k", np.asarray(x, dtype=float), np.asarray(y, dtype=float))


def drawn(*curves: Curve, log: bool = False, terminal: bool = True) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=70, no_color=not terminal)
    draw({f"curve {number}": each for number, each in enumerate(curves)}, console, title="title", log=log)
    return out.getvalue()


@pytest.mark.parametrize(
    ("values", "log", "said"),
    [
        (np.where(STEPS % 100 == 0, np.inf, FALLING), False, "20 of 2000 values of curve 0 are NaN or infinite."),
        (FALLING - 1, True, "0.1┤"),
        (np.exp(-STEPS / 100), True, "1e-06┤"),
        (FALLING * 1e-6, False, "1e-06┤"),
        (STEPS * 0 + 1.7e308, False, "1.7e+308"),
        (np.append(np.full(1999, 1.0), 1.7e308), False, "1.7e+308"),
        (np.where(STEPS % 2 == 0, 1.7e308, -1.7e308), False, "-1.7e+308"),
        (STEPS * 0 + 3, False, "3┤"),
        (STEPS * 0, True, "no finite values"),
        (STEPS * np.nan, False, "no finite values"),
    ],
)
def test_any_values_are_drawn_with_round_numbers_on_the_axis(values: ArrayLike, log: bool, said: str) -> None:
    text = drawn(curve(values), log=log)
    assert text.startswith("\x1b[1mtitle\x1b[0m\n")
    assert said in text
    assert "-0┤" not in text


def test_title_does_not_act_on_the_terminal() -> None:
    out = io.StringIO()
    draw({"a": curve(FALLING)}, Console(file=out, width=70), title="epoch/val/\x1b[2J")
    assert out.getvalue().startswith("epoch/val/ [2J\n")


def test_one_point_and_no_curve_are_drawn() -> None:
    assert "1┤" in drawn(curve([1.0], [5.0]))
    assert "no finite values" in drawn()
    assert "no finite values" in drawn(curve([], []))


@pytest.mark.parametrize("count", [1, 30])
def test_few_of_the_largest_values_are_a_table(count: int) -> None:
    for values in ([1e308] * count, [(-1) ** n * 1e308 for n in range(count)]):
        assert drawn(curve(values, STEPS[:count])).count("1e+308")


def test_several_curves_are_named_in_a_terminal_and_a_table_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    several = curve(FALLING), curve([1.0, 2.0], [1.0, 2000.0])
    assert "── curve 1" in drawn(*several)
    lines = [line.split() for line in drawn(*several, terminal=False).splitlines()]
    assert lines[:2] == [["title"], ["step", "curve", "0", "curve", "1"]]
    assert (lines[2], lines[-1]) == (["1", "1.995", "1"], ["2000", "0.01348", "2"])
    monkeypatch.setitem(sys.modules, "plotext", None)
    assert "pip install 'trackkit[report]'" in drawn(several[0])
