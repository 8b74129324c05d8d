"""A terminal's text becomes final lines: colors and movements go, a bar leaves few of its states."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest
from rich.console import Console as RichConsole
from rich.progress import Progress
from tqdm import tqdm

from trackkit.session.screen import MAX_ROW, ROWS, Screen


def texts(pieces: Iterable[tuple[float, str]], end: float = 1000.0) -> list[str]:
    """Returns the lines that a screen makes of pieces written at given times; looks once per second."""
    screen, found, now = Screen("stdout"), [], 0.0
    for time, piece in pieces:
        while now + 1 < time:
            now += 1
            found += screen.due(now)
        found += screen.write(time, piece)
    return [line.text for line in [*found, *screen.last(end)]]


class Written(io.StringIO):
    """Collects what is written; `at` is the time of each write."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 1.0
        self.pieces: list[tuple[float, str]] = []

    def write(self, text: str) -> int:
        self.pieces.append((self.at, text))
        return len(text)


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("a\nb\n\nc\n", ["a", "b", "", "c"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("no end", ["no end"]),
        ("\x1b[1;31mred\x1b[0m and \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", ["red and link"]),
        ("\x1b(Bplain\x1b[?25l\x1b[?25h\x07\x00\n", ["plain"]),
        ("  1%\r 50%\r100%\n", ["100%"]),
        ("abc\b\bX\n", ["aXc"]),
        ("long line\rshort\x1b[K\n", ["short"]),
        ("a\nb\n\x1b[2Anew\n\n", ["a", "b", "new"]),
        ("x\x1b[5Cy\n", ["x     y"]),
        ("tab\there\n", ["tab\there"]),
        ("a\x9b31mb\x85\n", ["a31mb"]),
    ],
)
def test_text_becomes_lines(written: str, lines: list[str]) -> None:
    assert texts([(1.0, written)]) == lines
    assert texts([(1.0, each) for each in written]) == lines, "written character by character"


def test_nested_bars_leave_few_lines() -> None:
    """30 epochs of 20 steps in 19 seconds."""
    out = Written()
    for _ in tqdm(range(30), "epochs", file=out, mininterval=0, ascii=True):
        for _ in tqdm(range(20), "steps", file=out, mininterval=0, ascii=True, leave=False):
            out.at += 19 / 600
    lines = texts(out.pieces)
    assert 2 <= len(lines) <= 6, lines
    assert "30/30" in lines[-1]


def test_bar_is_recorded_every_ten_seconds_and_at_its_end() -> None:
    out = Written()
    for number in tqdm(range(600), file=out, mininterval=0, ascii=True):
        out.at = 1.0 + number / 10
    lines = texts(out.pieces)
    assert 6 <= len(lines) <= 8
    assert "600/600" in lines[-1]


def test_prints_beside_a_bar_are_lines() -> None:
    out = Written()
    for number in tqdm(range(5), file=out, mininterval=0, ascii=True):
        tqdm.write(f"step {number}", file=out)
    lines = texts(out.pieces)
    assert [line for line in lines if line.startswith("step")] == [f"step {number}" for number in range(5)]
    assert "5/5" in lines[-1]
    assert len(lines) == 6


def test_rich_progress_leaves_few_lines() -> None:
    out = Written()
    console = RichConsole(file=out, force_terminal=True, width=60)
    with Progress(console=console, auto_refresh=False) as progress:
        task = progress.add_task("train", total=300)
        for number in range(300):
            out.at = 1.0 + number / 10
            progress.update(task, advance=1, refresh=True)
            if number % 100 == 50:
                progress.console.print(f"step {number}")
    lines = texts(out.pieces)
    assert [line.strip() for line in lines if "step" in line] == ["step 50", "step 150", "step 250"]
    assert "100%" in lines[-1]
    assert len(lines) <= 10


def test_unfinished_line_is_recorded_once_it_is_still() -> None:
    assert texts([(1.0, "loading ..."), (9.0, " done\n")]) == ["loading ...", "loading ... done"]
    assert texts([(1.0, "loading ..."), (1.5, " done\n")]) == ["loading ... done"]


def test_memory_of_a_screen_is_bounded() -> None:
    screen = Screen("stdout")
    for _ in range(200):
        screen.write(1.0, "\rx\n" * 100)
        screen.write(1.0, "endless" * 1000)
    assert len(screen._rows) <= ROWS  # noqa: SLF001 -- no public way to see it
    assert max(len(row.text) for row in screen._rows) < 2 * MAX_ROW  # noqa: SLF001 -- as above
