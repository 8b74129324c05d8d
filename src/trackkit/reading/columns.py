"""The columns of a run: facts about it, its config and its results, under the names that filters and tables use."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trackkit.engine.summary import best_key
from trackkit.local_log.reader import last_step, last_time
from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.statistics import is_number
from trackkit.schema.keys import describe

_RESULTS = ("final/val/", "final/test/", "final/train/")
_SPEEDS = ("runtime_s", "samples_per_s", "steps_per_s", "tokens_per_s")
_PRICE = "trackkit/settings/callbacks/final_summary/price_per_gpu_hour"
# From here on, numbers have an exponent.
_LARGE = 1e12
# Whole numbers below it, such as seeds, have all their digits.
_LONG = 10**20

# Facts by name, with what they say.
FACTS: Mapping[str, str] = {
    "id": "run id",
    "name": "name",
    "status": "`running`, `finished`, `failed`, `stopped`, `preempted` or `damaged`",
    "error": "why it failed, or can't be read",
    "age_h": "hours since its start",
    "duration_h": "hours of training; of a run that is running or was killed, from its start to now or its last row",
    "steps": "optimizer steps taken",
    "best": "best value of the monitored metric, of the first one known otherwise",
    "best_key": "the column that `best` is of",
    "tags": "list of tags",
    "project": "project",
    "group": "group",
    "job_type": "job type",
    "notes": "notes",
    "commit": "git commit, 7 characters; `*` behind it: with uncommitted changes",
    "synced": "whether a server has all of it",
    "framework": "`lightning`, `huggingface`, ...",
    "host": "computer",
    "folder": "run folder",
    "gpu_hours": "GPU hours; of a run without a summary, its hours times its GPUs",
    "cost": "US dollars; of a run without a summary, its GPU hours times the price that was set",
}


def columns(run: RecordedRun) -> dict[str, Any]:
    """Returns all columns of a run that have a value: facts (see `FACTS`), `final/*` and config."""
    return {**run.config, **run.summary, **facts(run)}


def facts(run: RecordedRun) -> dict[str, Any]:
    """Returns the facts about a run that are known (see `FACTS`)."""
    config, summary, fields = run.config, run.summary, run.run
    best = best_key(summary)
    duration_h = _first_number(summary.get("final/duration_h"), _duration_h(run))
    gpu_hours = _first_number(summary.get("final/gpu_hours"), _product(duration_h, config.get("runtime/gpu_count")))
    settings = {name: config.get(f"trackkit/settings/{name}") for name in ("project", "group", "job_type", "notes")}
    found = {
        "id": run.run_id,
        "name": run.name or None,
        "status": run.status,
        "error": fields.get("error") or summary.get("final/error"),
        "age_h": _age_h(fields),
        "duration_h": duration_h,
        "steps": _steps(run),
        "best": summary.get(best) if best else None,
        "best_key": best,
        "tags": fields.get("tags") or config.get("trackkit/settings/tags") or [],
        **{name: _text(fields.get(name) or value) for name, value in settings.items()},
        "commit": _commit(config),
        "synced": bool(fields["synced"]) if "synced" in fields else ("url" in fields or None),
        "framework": _text(fields.get("framework") or config.get("runtime/framework")),
        "host": _text(fields.get("host") or config.get("runtime/host")),
        "folder": str(run.folder) if run.folder is not None else None,
        "gpu_hours": gpu_hours,
        "cost": _first_number(summary.get("final/cost_usd"), _product(gpu_hours, config.get(_PRICE))),
    }
    return {name: value for name, value in found.items() if value is not None}


def results(summary: Mapping[str, Any]) -> dict[str, tuple[Any, Any, Any]]:
    """Returns metric (`val/loss`) to its last value, its best value, and the step of the best; None where unknown."""
    keys = [key for key in summary if _is_result(key, summary[key]) and not is_speed(key)]
    names = [key.removeprefix("final/") for key in keys]
    return {
        name: (summary[f"final/{name}"], summary.get(f"final/best/{name}"), summary.get(f"final/best/{name}_step"))
        for name in names
    }


def _is_result(key: str, value: Any) -> bool:
    """Returns whether a column is the last value of a metric."""
    return key.startswith(_RESULTS) or (is_number(value) and _is_without_split(key))


@functools.cache
def _is_without_split(key: str) -> bool:
    """Returns whether a column is of a metric without a split, which the vocabulary knows by its being nothing else."""
    line = describe(key)
    return line is not None and line.name == "final/<metric>"


def is_speed(key: str) -> bool:
    """Returns whether a key tells how long a training or an evaluation took, rather than a result."""
    return key.rpartition("/")[2] in _SPEEDS


def plain(value: Any, digits: int = 4) -> str:
    """Returns a value as a table shows it: numbers with a few significant digits, lists with commas."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= _LONG:
        return f"{float(value) if is_number(value) else Decimal(value):.{digits}g}"
    if isinstance(value, float):
        return f"{value:.0f}" if 10**digits <= abs(value) < _LARGE else f"{value:.{digits}g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(each) for each in value)
    return str(value)


def duration(hours: float) -> str:
    """Returns hours as a short text: `42 s`, `12 min`, `3.4 h`, `2.1 d`."""
    if hours * 3600 < 90:
        return f"{hours * 3600:.0f} s"
    if hours * 60 < 90:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d" if hours < _LARGE else f"{hours / 24:.4g} d"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _age_h(fields: Mapping[str, Any]) -> float | None:
    started = fields.get("started")
    return max(0.0, time.time() - float(started)) / 3600 if started is not None else None


def _duration_h(run: RecordedRun) -> float | None:
    if "started" not in run.run:
        return None
    ended = time.time() if run.status == "running" else run.run.get("ended")
    if not ended and run.folder is not None:
        ended = last_time(run.folder)
    return max(0.0, float(ended) - float(run.run["started"])) / 3600 if ended is not None else None


def _product(left: Any, right: Any) -> float | None:
    return left * right if is_number(left) and is_number(right) else None


def _first_number(*values: Any) -> float | None:
    return next((value for value in values if is_number(value)), None)


def _steps(run: RecordedRun) -> int | None:
    steps = run.summary.get("final/steps")
    return steps if steps is not None else last_step(run.folder) if run.folder is not None else None


def _commit(config: Mapping[str, Any]) -> str | None:
    commit = config.get("git/commit")
    return f"{str(commit)[:7]}{'*' if config.get('git/dirty') else ''}" if commit else None
