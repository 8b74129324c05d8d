"""The report: its page and its pictures, without a browser (see tests/browser)."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.local_log import write_run
from tests.support.report_page import Page
from tests.support.sweep import HOSTILE, write_sweep
from trackkit.errors import TrackKitError
from trackkit.local_log.recorded import RecordedRun
from trackkit.reading import charts
from trackkit.reading.charts import Line, color, group_line
from trackkit.reading.collection import Runs
from trackkit.reading.curves import Curve, buckets
from trackkit.reading.page_data import Packed, RunPage
from trackkit.reading.parallel import dimension, dimensions, varied
from trackkit.reading.pictures import View
from trackkit.reading.report import write_report
from trackkit.reading.runs import read_run, runs


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_sweep(root / "runs")
    view = View(axis="step", smoothing=0.9, log=True, group_by="hparams/lr")
    done = write_report(runs(root / "runs"), root / "report.html", view=view, forms=("png", "svg"))
    assert (done.runs, done.left_out, done.without_curves) == (4, [], 0)
    assert done.metrics == ["batch/loss", "epoch/val/acc", "batch/lr"]
    assert done.size == (root / "report.html").stat().st_size < 2_000_000
    return root


def test_numbers_in_the_page_equal_those_of_the_log(written: Path) -> None:
    page = Page(written / "report.html")
    found = list(runs(written / "runs"))
    assert page.column("hparams/lr") == [None, 0.1, 0.01, 0.001]
    assert page.column("final/best/val/acc") == [None, 0.5, 0.6, 0.7]
    assert page.data["places"] == [None, 0.0, 0.5, 1.0]
    assert (page.data["result"], page.data["title"]) == ("final/best/val/acc", "sweep")
    curves = page.curves("batch/loss")
    assert sorted(curves) == [1, 2, 3]
    for number, curve in curves.items():
        rows = found[number].rows_with("batch/loss")
        assert curve["size"] == 3
        assert curve["x"]["step"] == [*range(3, 1000, 3), 1000]
        assert curve["x"]["samples"] == [8 * step for step in curve["x"]["step"]]
        assert curve["x"]["time"] == [step - 1 for step in curve["x"]["step"]]
        losses = np.array([row.values["batch/loss"] for row in rows])
        parts = [part[np.isfinite(part)] for part in np.split(losses, range(3, 1000, 3))]
        assert curve["mean"] == pytest.approx([part.mean() for part in parts], rel=1e-4)
        assert curve["least"] == pytest.approx([part.min() for part in parts], rel=1e-4)
        assert curve["most"] == pytest.approx([part.max() for part in parts], rel=1e-4)
    assert curves[3]["bad"] == [[166, 1]]
    assert "least" not in page.curves("epoch/val/acc")[1]
    assert page.curves("epoch/val/acc")[2]["x"] == {"step": [1000], "samples": [8000], "time": [1000]}


def test_page_runs_nothing_from_elsewhere(written: Path) -> None:
    page = Page(written / "report.html")
    assert (
        "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"
        in page.text
    )
    assert page.column("name")[1:] == [HOSTILE] * 3
    assert "<img src=x" not in page.text
    assert page.text.count("<script") == page.text.count("</script>") == 3 + 1 + len(page.data["metrics"])
    assert "__" not in page.text.partition("<script")[0]


def test_page_has_the_end_of_the_console_and_the_state_asked_for(written: Path) -> None:
    page = Page(written / "report.html")
    assert page.data["pages"][1]["console"] == [f"line {number}" for number in range(50, 250)]
    assert page.data["pages"][1]["lines"] == 250
    state = page.data["state"]
    assert (state["smoothing"], state["log"], state["group_by"]) == (0.9, True, "hparams/lr")
    assert state["axes"] == ["step", "samples", "time"]
    assert page.data["groups"]["hparams/lr"] == [None, "0.1", "0.01", "0.001"]
    assert [head["label"] for head in page.data["parallel"]["heads"]] == ["lr", "best/val/acc"]


def test_pictures_of_the_charts_are_written(written: Path) -> None:
    assert (written / "report.png").read_bytes().startswith(b"\x89PNG")
    svg = (written / "report.svg").read_text()
    assert svg.startswith("<svg")
    assert all(text in svg for text in ("sweep", "batch/loss", "epoch/val/acc", "best/val/acc"))


def test_fifty_runs_fit_in_ten_megabytes_and_what_does_not_is_named() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(10_000.0)
    pages = []
    for _ in range(50):
        page = RunPage()
        for number in range(16):
            key = f"batch/m{number}"
            page.metrics[key] = found = buckets(Curve(key, x, rng.normal(size=10_000)), 400)
            page.axes[key] = {"step": found.x, "time": found.x * 0.1}
        pages.append(page)
    packed = Packed(pages, ["batch/m9"], room=3_000_000)
    size = len(packed.pool) + sum(len(each["data"]) for each in packed.metrics)
    assert 2_500_000 < size < 3_000_000
    assert packed.metrics[0]["key"] == "batch/m9"
    assert len(packed.metrics) >= 10
    assert {each["key"] for each in packed.metrics} | set(packed.left_out) == set(pages[0].metrics)
    assert len(packed.metrics) + len(packed.left_out) == 16


@pytest.mark.parametrize(
    ("view", "target", "message"),
    [
        (View(metrics=("val/los",)), "r.html", "no run has the metric 'val/los'"),
        (View(axis="tokens"), "r.html", "no run has recorded 'tokens'"),
        (View(group_by="hparams/lrr"), "r.html", "did you mean 'hparams/lr'"),
        (View(), "missing/r.html", "cannot write"),
        (View(), ".", "is a folder"),
        (View(), "x" * 300, "cannot write"),
    ],
)
def test_what_can_not_be_written_is_a_clear_error(
    view: View, target: str, message: str, written: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrackKitError, match=message):
        write_report(runs(written / "runs"), tmp_path / target, view=view)


def test_runs_without_rows_results_or_a_common_metric_are_reported(tmp_path: Path) -> None:
    with pytest.raises(TrackKitError, match="no runs to report"):
        write_report(Runs(()), tmp_path / "r.html")
    write_run(tmp_path, "a", rows=({"batch/step": 1, "batch/a": 1.0}, {"batch/step": 2, "batch/a": math.inf}))
    write_run(tmp_path, "b", {"hparams/lr": "odd"}, rows=({"batch/step": 1, "batch/b": 1.0},), started=2.0)
    write_run(tmp_path, "c", rows=(), started=3.0)
    done = write_report(runs(tmp_path), tmp_path / "r.html", forms=("svg",), view=View(log=True))
    assert done.metrics == ["batch/a", "batch/b"]
    page = Page(tmp_path / "r.html")
    assert (page.data["result"], page.data["places"]) == (None, [0.0, 0.5, 1.0])
    write_report(Runs([read_run(tmp_path / "_trackkit" / "c")]), tmp_path / "r.html", forms=("svg",))


def test_secrets_of_a_run_from_a_server_are_masked(tmp_path: Path) -> None:
    fields = {"run_id": "x", "status": "finished", "name": "n"}
    keys = [{"hparams/api_key": f"s3cr3t-of-mine-012345678{number}", "hparams/lr": 0.1} for number in range(3)]
    write_report(Runs(RecordedRun(config, {"final/val/loss": 1.0}, fields) for config in keys), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "s3cr3t" not in text
    assert "hparams/api_key" in text


def test_extra_that_is_missing_is_named(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charts.bundle.cache_clear()
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(TrackKitError, match=r"altair, which is not installed. Run: pip install 'trackkit\[report\]'"):
        write_report(runs(written / "runs"), tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_smoothing_is_that_of_every_point() -> None:
    """The means of buckets, smoothed by the weight of as many points, follow the average over all points."""
    y = 1 + np.exp(-np.arange(10_000) / 2000) + np.random.default_rng(0).normal(0, 0.3, 10_000)
    value, total, exact = 0.0, 0.0, []
    for each in y:
        value, total = 0.999 * value + 0.001 * each, 0.999 * total + 0.001
        exact.append(value / total)
    of = buckets(Curve("k", np.arange(10_000.0), y), 400)
    assert of.smoothed(0.999) == pytest.approx(np.array(exact)[of.ends], rel=0.02)
    assert list(of.smoothed(0.0)) == list(of.mean)


def test_groups_are_means_with_a_standard_deviation() -> None:
    lines = [Line(n, "#000000", np.array([0.0, 10.0]), np.array([n, n + 10.0])) for n in (1, 3)]
    found = group_line(0, "#000000", "g", [*lines, Line(9, "#000000", np.array([5.0]), np.array([5.0]))])
    assert list(found.x) == [0, 5, 10]
    assert list(found.y) == pytest.approx([2, (6 + 8 + 5) / 3, 12])
    assert list(found.most - found.y) == pytest.approx([math.sqrt(2), np.std([6, 8, 5], ddof=1), math.sqrt(2)])


def test_axes_are_even_for_few_values_and_logarithmic_for_wide_ones() -> None:
    few = dimension("optimizer", ["sgd", None, "adam", "sgd"])
    assert few is not None
    assert (few.places, few.ticks) == ([0.75, None, 0.25, 0.75], [(0.25, "adam"), (0.75, "sgd")])
    wide = dimension("lr", [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 2e-4, 3e-4])
    assert wide is not None
    assert wide.places[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert [label for _, label in wide.ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    even = dimension("dropout", [number / 100 for number in range(1, 300)])
    assert even is not None
    assert even.ticks[0] == (0.0, "0.01")
    assert even.ticks[2] == (0.5, "1.5")
    assert dimension("note", [f"text {number}" for number in range(20)]) is None
    table = [
        {"hparams/lr": lr, "optim/lr": lr, "hparams/seed": lr, "trainer/default_root_dir": str(lr)} for lr in (1, 2)
    ]
    assert varied(table) == ["hparams/lr"]
    assert varied(table, seeds=True) == ["hparams/lr", "hparams/seed"]
    assert [each.column for each in dimensions(table, None)] == ["hparams/lr"]
    assert (color(1.0), color(0.0, "dark"), color(None)) == ("#3d2a86", "#5a5fb0", "#9aa1ab")
