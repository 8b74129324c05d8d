"""The report's page in a real browser, Chromium: `make test-browser`.

Every test fails if the page logs anything or asks for anything but itself.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.support.sweep import HOSTILE, long_sweep, write_sweep
from trackkit.reading.charts import Line, color, group_line
from trackkit.reading.collection import Runs
from trackkit.reading.curves import buckets, curve
from trackkit.reading.report import write_report
from trackkit.reading.runs import runs

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LINES = "[...cards].find((card) => card.metric && card.metric.key === key && !card.runs).view.data('lines')"


class Browser:
    """A browser with an empty profile, the page it shows, and what the page logged and asked for."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.pages[0]
        self.noise: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.noise.append(message.text))
        self.page.on("pageerror", lambda error: self.noise.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path, width: int = 1360, height: int = 900) -> Page:
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.goto("about:blank")
        self.page.emulate_media(color_scheme="light")
        self.requests.clear()
        self.page.goto(path.as_uri())
        self.until("document.documentElement.dataset.drawn")
        return self.page

    def until(self, expression: str) -> Any:
        """Waits until an expression is true. The page's policy forbids playwright's own way to wait."""
        for _ in range(400):
            found = self.page.evaluate(expression)
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}\n{self.noise}")

    def lines(self, key: str) -> dict[int, list[tuple[float, float | None]]]:
        """Returns the points of a metric's chart, by the number of the run or group."""
        self.until("document.documentElement.dataset.drawn")
        found: dict[int, list[tuple[float, float | None]]] = {}
        for row in self.page.evaluate(f"(key) => {LINES}.map(({{ r, x, y }}) => [r, x, y])", key):
            found.setdefault(row[0], []).append((row[1], row[2]))
        return found

    def rows(self) -> list[int]:
        """Returns the numbers of the runs in the table, in its order."""
        return [
            int(n)
            for n in self.page.evaluate(
                "[...document.querySelectorAll('#runs tbody tr')].map((row) => row.dataset.run)"
            )
        ]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.exit(
            "There is no Chromium. Run 'apt install chromium', or set CHROMIUM to a browser's path.", returncode=2
        )
    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        context = playwright.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=ARGUMENTS)
        yield Browser(context)
        context.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    chromium.noise.clear()
    yield chromium
    assert chromium.noise == []
    assert {url.partition("#")[0].partition("?")[0] for url in chromium.requests} <= {
        chromium.page.url.partition("#")[0]
    }


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Runs]:
    """A page of a damaged run and three others, the last with NaN."""
    root = tmp_path_factory.mktemp("sweep")
    write_sweep(root / "runs")
    found = runs(root / "runs")
    write_report(found, root / "report.html")
    return root / "report.html", found


def test_numbers_in_the_page_equal_those_of_the_log(browser: Browser, sweep: tuple[Path, Runs]) -> None:
    path, found = sweep
    page = browser.open(path)
    cells = "[...document.querySelectorAll('#runs td[data-column=\"{}\"]')].map((cell) => cell.title)"
    order = browser.rows()
    assert order == [3, 2, 1, 0]
    for column in ("final/best/val/acc", "hparams/lr"):
        shown = page.evaluate(cells.format(column))
        logged = [found.table[number].get(column) for number in order]
        assert [float(text) if text else None for text in shown] == logged
    assert page.evaluate(cells.format("name"))[:3] == [HOSTILE] * 3
    lines = browser.lines("batch/loss")
    assert sorted(lines) == [1, 2, 3]
    for number, points in lines.items():
        of = buckets(curve(found[number], "batch/loss"))
        assert [x for x, _ in points] == list(of.x)
        assert [y for _, y in points] == pytest.approx(of.mean.tolist(), rel=1e-4)
    assert "1 NaN" in page.inner_text("#curves .card:first-child h3")


def test_smoothing_log_scale_and_axes_change_the_curves(browser: Browser, sweep: tuple[Path, Runs]) -> None:
    path, found = sweep
    page = browser.open(path)
    of = buckets(curve(found[1], "batch/loss"))
    # Half of the slider is 0.99.
    page.evaluate(
        "() => { const s = document.getElementById('smoothing'); s.value = '50'; s.dispatchEvent(new Event('input')); }"
    )
    assert [y for _, y in browser.lines("batch/loss")[1]] == pytest.approx(
        of.smoothed(0.99).tolist(), rel=1e-4, abs=1e-5
    )
    assert page.inner_text("#controls output") == "0.99"
    for axis, unit in (("samples", 1.0), ("time", 60.0)):
        page.check(f"#controls input[value='{axis}']", force=True)
        x = curve(found[1], "batch/loss", axis).x[of.ends]  # type: ignore[arg-type]
        assert [x for x, _ in browser.lines("batch/loss")[1]] == pytest.approx((x / unit).tolist(), rel=1e-6)
    page.check("#log")
    browser.lines("batch/loss")
    assert page.evaluate("[...cards][0].view.scale('y').type") == "log"
    assert page.evaluate("[...cards][0].view.scale('y').domain()")[0] > 0


def test_table_is_sorted_and_filtered_with_the_curves(browser: Browser, sweep: tuple[Path, Runs]) -> None:
    page = browser.open(sweep[0])
    heading = page.locator("#runs thead button[title='hparams/lr']")
    heading.click()
    assert browser.rows() == [3, 2, 1, 0]
    heading.click()
    assert browser.rows() == [1, 2, 3, 0]
    assert page.evaluate("document.querySelector('#runs th[aria-sort]').getAttribute('aria-sort')") == "descending"
    for text, rows in (("lr<0.05", [2, 3]), ("lr<0.05 seed=1", [2]), ("damaged", [0]), ("status!=finished", [0])):
        page.fill("#filter", text)
        shown = "JSON.stringify([...document.querySelectorAll('#runs tbody tr')].map((row) => Number(row.dataset.run)))"
        browser.until(f"{shown} === '{json.dumps(rows, separators=(',', ':'))}'")
    page.fill("#filter", "val/acc>=0.6")
    browser.until("document.querySelectorAll('#runs tbody tr').length === 2")
    assert sorted(browser.lines("batch/loss")) == [2, 3]
    page.click("#runs summary")
    page.fill("#runs .menu input[type=search]", "settings/project")
    page.check("#runs .menu li input")
    assert page.inner_text("#runs thead th:last-child") == "trackkit/settings/project"


def test_lines_of_groups_are_their_means(browser: Browser, tmp_path: Path) -> None:
    found = long_sweep(6, 400)
    write_report(found, tmp_path / "r.html")
    page = browser.open(tmp_path / "r.html")
    page.select_option("#group", "hparams/width")
    lines = browser.lines("batch/loss")
    members: dict[int, list[Line]] = {}
    for number, run in enumerate(found):
        of = buckets(curve(run, "batch/loss"))
        members.setdefault(number % 3, []).append(Line(number, "", of.x, of.mean))
    for number, group in members.items():
        expected = group_line(number, "", "", group)
        assert [y for _, y in lines[number]] == pytest.approx(expected.y.tolist(), rel=1e-4)
    assert "64 (n=2)" in page.inner_text(".legend")


def test_page_of_a_run_has_its_curves_config_and_console(browser: Browser, sweep: tuple[Path, Runs]) -> None:
    page = browser.open(sweep[0])
    page.click("#runs tbody tr:nth-child(2) a")
    browser.until("!document.getElementById('run').hidden")
    assert page.inner_text("#run h1").split() == HOSTILE.split()
    assert page.inner_text("#run pre").splitlines()[-1] == "line 249"
    assert page.inner_text("#run .plain [data-column='hparams/lr']") == "0.01"
    browser.until("document.querySelectorAll('#run canvas').length >= 3")
    page.click("#run nav a")
    browser.until("document.getElementById('run').hidden")
    assert page.inner_text("#differences tbody tr:first-child th") == "hparams/lr"


def test_page_follows_the_color_scheme(browser: Browser, sweep: tuple[Path, Runs]) -> None:
    page = browser.open(sweep[0])
    best = f"(key) => {LINES}.filter((point) => point.r === 3)[0].c"
    assert page.evaluate(best, "batch/loss") == color(1.0, "light")
    page.emulate_media(color_scheme="dark")
    browser.until(f"({best})('batch/loss') === '{color(1.0, 'dark')}'")


@pytest.mark.parametrize("where", ["", "#run/3"])
def test_nothing_scrolls_sideways_on_a_phone(where: str, browser: Browser, sweep: tuple[Path, Runs]) -> None:
    page = browser.open(sweep[0], width=390, height=844)
    page.evaluate("(where) => { location.hash = where; }", where)
    browser.until("document.querySelectorAll('main:not([hidden]) canvas').length")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('main:not([hidden]) canvas').getBoundingClientRect().right") <= 390


def test_fifty_runs_of_ten_thousand_points_are_drawn(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = write_report(long_sweep(), tmp_path / "r.html")
    times = []
    for _ in range(4):
        browser.open(tmp_path / "r.html")
        times.append(float(browser.until("document.documentElement.dataset.drawn")))
    assert len(browser.lines("batch/loss")) == 50
    assert done.size < 10_000_000
    with capsys.disabled():
        print(
            f"\n50 runs x 10,000 points: {done.size / 1e6:.1f} MB (asked: 10), {np.median(times):.0f} ms (asked: 1,500)"
        )
