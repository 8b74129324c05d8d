"""What a report shows of runs, as plain data: columns, curves in buckets, findings and the console's end."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.strict import strict
from trackkit.notices import logger
from trackkit.reading.collection import Runs
from trackkit.reading.columns import FACTS
from trackkit.reading.curves import AXES, Axis, Buckets, Curves, Floats, buckets, first_keys
from trackkit.reading.findings.finding import Finding
from trackkit.reading.findings.registry import findings
from trackkit.reading.rollup import main_metric
from trackkit.reading.statistics import is_number
from trackkit.redaction.patterns import clip
from trackkit.redaction.redact import redact
from trackkit.schema import keys as schema
from trackkit.schema.goals import direction

# Runs with curves, findings and console; the table has all.
MOST_RUNS = 200
_BUCKETS = 400
# Points of a metric over all runs: with more runs, each has fewer buckets.
_POINTS = 24_000
# A browser's numbers hold smaller integers; larger ones are texts.
_EXACT = 2**53
_LINES = 200
_LINE = 400
# Of the console of all runs together, in characters.
_CONSOLE = 1_500_000
_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)|[\x00-\x08\x0b-\x1f\x7f]")
_COUNTS = frozenset({"batch/samples", "batch/tokens"})


@dataclass
class RunPage:
    """What a report has of one run beside its columns.

    Attributes:
        found: what the detectors found.
        console: the last lines.
        lines: of the console in all.
        metrics: key to buckets.
        axes: key to the buckets' positions on each axis that the run has.
    """

    found: list[Finding] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    lines: int = 0
    metrics: dict[str, Buckets] = field(default_factory=dict)
    axes: dict[str, dict[Axis, Floats]] = field(default_factory=dict)


def read_pages(runs: Runs, ranked: Sequence[float | None]) -> tuple[list[RunPage], int]:
    """Reads the rows of runs, one run after the other; the rows of one at a time are in memory.

    Args:
        runs: the runs.
        ranked: the place of each, as `places` gives it. Of more than `MOST_RUNS` the best are read.

    Returns:
        The page of each run, and how many runs were not read.
    """
    order = sorted(range(len(runs)), key=lambda number: -1.0 if (place := ranked[number]) is None else place)
    read = set(order[-MOST_RUNS:])
    most = max(60, min(_BUCKETS, _POINTS // max(1, len(read))))
    lines = max(20, min(_LINES, _CONSOLE // (80 * max(1, len(read)))))
    pages = [_read_page(run, runs, most, lines) if n in read else RunPage() for n, run in enumerate(runs)]
    return pages, len(runs) - len(read)


def _read_page(run: RecordedRun, runs: Runs, most: int, lines: int) -> RunPage:
    # A copy, whose rows are freed with it.
    run = replace(run)
    page = RunPage()
    try:
        curves = Curves(run)
        for key in run.keys:
            if key in schema.AXES or key in _COUNTS:
                continue
            of = curves.curve(key)
            if not len(of):
                continue
            page.metrics[key] = found = buckets(of, most)
            along = {axis: curves.curve(key, axis).x for axis in AXES}
            page.axes[key] = {axis: x[found.ends] for axis, x in along.items() if len(x)}
        page.found = findings(run, runs)
        console = run.console
        page.lines = len(console)
        page.console = [_line(line.text) for line in console[-lines:]]
    except Exception as error:  # noqa: BLE001 -- one damaged run must not cost the report of the others
        logger.debug("run %s can't be read", run.run_id, exc_info=True)
        page.found.append(Finding("damaged", "high", f"The rows of this run can't be read: {error}"))
    return page


def _line(text: str) -> str:
    text = _ESCAPE.sub("", text)
    return text if len(text) <= _LINE else f"{text[:_LINE]} …"


def result_column(runs: Runs, metric: str = "") -> str | None:
    """Returns the column that runs are ranked by: that of the metric, else the monitored one of most runs.

    Without either, a result whose name tells whether less or more is better, of validation first.
    """
    if metric:
        word = metric.removeprefix("epoch/")
        tried = (f"final/best/{word}", f"final/{word}", word)
        return next((name for name in tried if name in runs.known and direction(name)), None)
    if monitored := main_metric(runs):
        return monitored
    counted = Counter(name for row in runs.table for name in row if name.startswith("final/") and direction(name))
    first = ("final/best/val/", "final/val/", "final/")
    ordered = sorted(
        counted, key=lambda name: (min(n for n, p in enumerate(first) if name.startswith(p)), -counted[name])
    )
    return ordered[0] if ordered else None


def places(runs: Runs, column: str | None) -> list[float | None]:
    """Returns the place of each run from 0 (the worst) to 1 (the best); without a result, the newest is the last."""
    if column is None:
        return [number / max(1, len(runs) - 1) if len(runs) > 1 else 1.0 for number in range(len(runs))]
    sign = -1 if direction(column) == "min" else 1
    values = [row.get(column) for row in runs.table]
    known = [n for n, v in enumerate(values) if is_number(v)]
    ordered = sorted(known, key=lambda number: sign * values[number])  # type: ignore[operator]
    found: list[float | None] = [None] * len(values)
    for at, number in enumerate(ordered):
        found[number] = at / (len(ordered) - 1) if len(ordered) > 1 else 1.0
    return found


def column_data(runs: Runs) -> list[dict[str, Any]]:
    """Returns every column: `name`, `kind` (`fact`, `result`, `config`), and `values` per run, or `same` for all."""
    kinds = {"fact": set(FACTS), "result": {name for run in runs for name in run.summary}}
    names = {name for row in runs.table for name in row}
    ordered = [name for name in FACTS if name in names] + sorted(names - set(FACTS), key=_order)
    found: list[dict[str, Any]] = []
    for name in ordered:
        kind = next((kind for kind, members in kinds.items() if name in members), "config")
        values = [_strict(row.get(name)) for row in runs.table]
        texts = {json.dumps(value) for value in values}
        about = FACTS.get(name, "").replace("`", "")
        shared: dict[str, Any] = {"same": values[0]} if len(texts) == 1 else {"values": values}
        found.append({"name": name, "kind": kind, "about": about, **shared})
    return found


def _order(name: str) -> tuple[int, str]:
    first = ("final/best/", "final/", "hparams/", "optim/", "data/", "model/")
    return next((n for n, start in enumerate(first) if name.startswith(start)), len(first)), name


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return strict(value)
    if isinstance(value, Mapping):
        return json.dumps({str(key): _strict(each) for key, each in value.items()})
    if isinstance(value, (list, tuple)):
        return ", ".join(str(_strict(each)) for each in value)
    if isinstance(value, int) and abs(value) >= _EXACT:
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float)) else clip(str(value), 2000)


def masked(runs: Runs) -> Runs:
    """Returns the runs with secrets masked in those that have no local log, which has masked them already."""
    if all(run.folder is not None for run in runs):
        return runs
    return Runs(run if run.folder is not None else _masked(run) for run in runs)


def _masked(run: RecordedRun) -> RecordedRun:
    config, summary, fields = (
        {name: redact(name, value) for name, value in each.items()} for each in (run.config, run.summary, run.run)
    )
    return replace(run, config=config, summary=summary, run=fields)


class Packed:
    """Curves of all runs, metric by metric, packed for the page.

    Attributes:
        metrics: what is packed: `key`, `goal`, `runs` (numbers of the runs that have it) and `data` (base64 of gzipped
            JSON: number of the run to `size`, `x` (axis to a number in `pool`), `mean`, `least`, `most` and `bad`,
            which are pairs of bucket and count).
        left_out: keys for which there was no room.
    """

    def __init__(self, pages: Sequence[RunPage], asked: Sequence[str], room: int) -> None:
        self._pages = pages
        self._pool: dict[str, int] = {}
        self.metrics: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        for key in ordered_keys(pages, asked):
            known = len(self._pool)
            packed = self._pack(key)
            added = sum(len(text) for text in list(self._pool)[known:]) // 2
            room -= len(packed["data"]) + added
            if room < 0 and self.metrics:
                self.left_out.append(key)
                for text in list(self._pool)[known:]:
                    del self._pool[text]
                room += len(packed["data"]) + added
            else:
                self.metrics.append(packed)

    @property
    def pool(self) -> str:
        """The positions, which many curves share: base64 of gzipped JSON, a list of lists."""
        return _squeeze(f"[{','.join(self._pool)}]")

    def _pack(self, key: str) -> dict[str, Any]:
        numbers = [number for number, page in enumerate(self._pages) if key in page.metrics]
        text = ",".join(f'"{number}":{self._curve(self._pages[number], key)}' for number in numbers)
        return {"key": key, "goal": direction(key), "runs": numbers, "data": _squeeze(f"{{{text}}}")}

    def _curve(self, page: RunPage, key: str) -> str:
        of = page.metrics[key]
        x = {axis: self._pool.setdefault(_texts(x, 10), len(self._pool)) for axis, x in page.axes[key].items()}
        bad = [[int(at), int(of.nonfinite[at])] for at in np.flatnonzero(of.nonfinite)]
        parts = [f'"size":{of.size},"x":{json.dumps(x)},"mean":{_texts(of.mean)}']
        if of.size > 1:
            parts.append(f'"least":{_texts(of.least)},"most":{_texts(of.most)}')
        return f"{{{','.join([*parts, *([f'{chr(34)}bad{chr(34)}:{json.dumps(bad)}'] if bad else [])])}}}"


def ordered_keys(pages: Sequence[RunPage], asked: Sequence[str]) -> list[str]:
    """Returns all keys: those asked for, then what a reader looks at first, then those that most runs have."""
    counted = Counter(key for page in pages for key in page.metrics)
    rooms = ("epoch/val/", "epoch/", "batch/", "device/", "ranks/")
    rest = sorted(
        counted, key=lambda key: (-counted[key], next((n for n, r in enumerate(rooms) if key.startswith(r)), 9), key)
    )
    return list(dict.fromkeys([*asked, *first_keys(counted), *rest]))


def _texts(values: Floats, digits: int = 5) -> str:
    """Returns numbers as JSON, with a few significant digits; NaN and infinities as null."""
    form = f"%.{digits}g"
    return f"[{','.join('null' if value - value != 0 else form % value for value in values.tolist())}]"


def _squeeze(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
