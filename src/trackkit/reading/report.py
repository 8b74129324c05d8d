"""Writes a report of runs: one page that opens without internet, and the same charts as pictures."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

from trackkit.errors import did_you_mean
from trackkit.local_log.recorded import keys_meant
from trackkit.local_log.regular import ReadError
from trackkit.reading import charts
from trackkit.reading.collection import Runs
from trackkit.reading.columns import plain
from trackkit.reading.curves import AXES, first_keys
from trackkit.reading.page_data import (
    Packed,
    RunPage,
    column_data,
    masked,
    ordered_keys,
    places,
    read_pages,
    result_column,
)
from trackkit.reading.parallel import axes_data, dimensions, varied
from trackkit.reading.pictures import View, picture_spec
from trackkit.schema.goals import direction

# Of the page, with all curves.
_MOST_BYTES = 9_000_000
_SCRIPTS = ("numbers.js", "charts.js", "table.js", "runs.js", "page.js")
_SHOWN = 6
_PLACEHOLDER = re.compile(r"__([A-Z]+)__")
_AS_IT_IS = View()
_Form = Literal["png", "svg"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class ReportSummary:
    """What was written.

    Attributes:
        path: of the page.
        size: of the page in bytes.
        runs: number of runs.
        metrics: keys with curves.
        left_out: keys without, for want of space.
        without_curves: number of runs that have none, for want of space.
        pictures: files with the same charts.
    """

    path: Path
    size: int
    runs: int
    metrics: list[str]
    left_out: list[str]
    without_curves: int
    pictures: list[Path]


def write_report(
    runs: Runs, path: Path, *, view: View = _AS_IT_IS, title: str = "", forms: Sequence[_Form] = ()
) -> ReportSummary:
    """Writes a page, and pictures of its charts beside it.

    Args:
        runs: the runs.
        path: of the page.
        view: what it shows when it opens.
        title: of the page. Default: the projects' names.
        forms: of pictures: `png`, `svg`.

    Raises:
        ReadError: there are no runs, no run has a metric asked for, the extra `report` is not installed, or the file
            can't be written.
        ExpressionError: `group_by` is no column or expression.
    """
    if not runs:
        raise ReadError("there are no runs to report. Train with TrackKit, or name a folder with runs.")
    script = charts.bundle()
    if os.path.isdir(path):
        raise ReadError(f"'{path}' is a folder. Name a file, such as '{path / 'report.html'}'.")
    _writing(path, lambda: _try(path))
    runs = masked(runs)
    result = result_column(runs, view.metrics[0] if view.metrics else "")
    ranked = places(runs, result)
    pages, unread = read_pages(runs, ranked)
    known = {key for page in pages for key in page.metrics}
    asked = [_find(word, known) for word in view.metrics]
    shown = asked or first_keys(known, _SHOWN) or ordered_keys(pages, ())[:_SHOWN]
    title = title or _title(runs)
    packed = Packed(pages, shown, _MOST_BYTES - len(script) - 1_000_000)
    axes = [axis for axis in AXES if any(axis in found for page in pages for found in page.axes.values())]
    if view.axis not in (axes or AXES):
        raise ReadError(f"no run has recorded '{view.axis}'. Give one of these axes: {', '.join(axes)}.")
    groups = _groups(runs, view.group_by)
    dims = dimensions(runs.table, result)
    data = {
        "title": title,
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "version": version("trackkit"),
        "state": {**asdict(view), "metrics": shown, "axes": axes or ["step"]},
        "result": result,
        "lessIsBetter": result is not None and direction(result) == "min",
        "places": ranked,
        "groups": groups,
        "columns": column_data(runs),
        "varied": [name for name in varied(runs.table, seeds=True) if name in runs.known],
        "metrics": [{name: each[name] for name in ("key", "goal", "runs")} for each in packed.metrics],
        "leftOut": packed.left_out,
        "withoutCurves": unread,
        "parallel": axes_data(dims),
        "pages": [_page(page) for page in pages],
        "charts": {
            "linear": charts.curve_chart().to_dict(),
            "log": charts.curve_chart(log=True).to_dict(),
            "parallel": charts.parallel_chart(len(dims)).to_dict() if dims else None,
        },
        "looks": {theme: charts.look(theme) for theme in charts.SCALES},
        "scales": charts.SCALES,
        "withoutRank": charts.WITHOUT_RANK,
    }
    blobs = [("pool", packed.pool), *((f"metric-{n}", each["data"]) for n, each in enumerate(packed.metrics))]
    text = _fill(title, script, data, blobs)
    _writing(path, partial(path.write_text, text, encoding="utf-8"))
    pictures = []
    if forms:
        spec = picture_spec(title, runs, pages, shown, view, ranked, groups, dims)
        for form in forms:
            target = path.with_suffix(f".{form}")
            _writing(target, partial(target.write_bytes, charts.picture(spec, form)))
            pictures.append(target)
    keys = [each["key"] for each in packed.metrics]
    return ReportSummary(path, path.stat().st_size, len(runs), keys, packed.left_out, unread, pictures)


def _try(path: Path) -> None:
    """Opens a file for writing, before the runs are read; leaves no file behind.

    Raises:
        OSError: it can't be written.
    """
    is_new = not path.exists()
    path.open("ab").close()
    if is_new:
        path.unlink()


def _writing(path: Path, write: Callable[[], _T]) -> _T:
    try:
        return write()
    except OSError as error:
        raise ReadError(f"cannot write '{path}': {error.strerror or error}") from error


def _find(word: str, known: set[str]) -> str:
    """Returns the key that a word means, as `RecordedRun.find_key` does over all runs."""
    meant = keys_meant(word, known)
    if f"epoch/{word}" in meant:
        return f"epoch/{word}"
    if len(meant) > 1:
        raise ReadError(f"several metrics end with '{word}': {', '.join(meant)}. Give one of them.")
    if not meant:
        raise ReadError(f"no run has the metric '{word}'{did_you_mean(word, known) if known else ''}")
    return meant[0]


def _title(runs: Runs) -> str:
    projects = Counter(str(row["project"]) for row in runs.table if row.get("project"))
    return ", ".join(name for name, _ in projects.most_common(3)) or "Runs"


def _groups(runs: Runs, by: str) -> dict[str, list[str | None]]:
    """Returns the columns that runs can be grouped by: name to the value of each run, as text."""
    names = [by] if by else []
    names += ["group"] if "group" in runs.known and any(row.get("group") for row in runs.table) else []
    names += varied(runs.table)
    found = {}
    for name in dict.fromkeys(names):
        values = runs.column(name)
        texts = [None if value is None else plain(value, 6) for value in values]
        if name == by or len({*texts} - {None}) < len(runs):
            found[name] = texts
    return found


def _page(page: RunPage) -> dict[str, Any]:
    found = [{**asdict(each), "steps": list(each.steps) if each.steps else None} for each in page.found]
    return {"findings": found, "console": page.console, "lines": page.lines}


def _fill(title: str, script: str, data: Mapping[str, Any], blobs: Sequence[tuple[str, str]]) -> str:
    """Returns the page. What comes from runs is in it as JSON without `<`, or escaped."""
    folder = files("trackkit.reading").joinpath("page")
    read = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css", *_SCRIPTS)}
    parts = {
        "TITLE": escape(title),
        "STYLE": read["page.css"],
        "BUNDLE": _script(script),
        "DATA": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "BLOBS": "".join(
            f'<script type="application/octet-stream" id="{name}">{text}</script>\n' for name, text in blobs
        ),
        "SCRIPT": _script("\n".join(read[name] for name in _SCRIPTS)),
    }
    return _PLACEHOLDER.sub(lambda found: parts[found[1]], read["page.html"])


def _script(text: str) -> str:
    """Returns a script that can't end its element."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", text, flags=re.IGNORECASE)
