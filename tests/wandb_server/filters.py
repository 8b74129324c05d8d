"""Filters and orders runs as `wandb.Api().runs(...)` does: the part of MongoDB's language that the service accepts.

Served: equality, $and, $or, $not, $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $regex; keys `config.*`
(with or without `.value`), `summary_metrics.*`, and the run's own fields in snake case or camel case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .execute import GraphQLError
from .runs import Run

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: contains(value, wanted),
    "$ne": lambda value, wanted: not contains(value, wanted),
    "$gt": lambda value, wanted: value is not None and value > wanted,
    "$gte": lambda value, wanted: value is not None and value >= wanted,
    "$lt": lambda value, wanted: value is not None and value < wanted,
    "$lte": lambda value, wanted: value is not None and value <= wanted,
    "$in": lambda value, wanted: any(contains(value, item) for item in wanted),
    "$nin": lambda value, wanted: not any(contains(value, item) for item in wanted),
    "$exists": lambda value, wanted: (value is not None) == wanted,
    "$regex": lambda value, wanted: isinstance(value, str) and re.search(wanted, value) is not None,
}


def contains(value: Any, wanted: Any) -> bool:
    """Returns whether values are equal; a list, such as the tags, also equals each of its members."""
    return bool(value == wanted or (isinstance(value, list) and wanted in value))


def lookup(run: Run, key: str) -> Any:
    """Returns the value of a run for a key of a filter or an order."""
    head, _, rest = key.partition(".")
    if head == "config":
        value: Any = run.config
        for part in rest.removesuffix(".value").split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value
    if head in ("summary_metrics", "summaryMetrics"):
        return run.summary.get(rest)
    fields: dict[str, Any] = {
        "state": run.state,
        "name": run.id,
        "display_name": run.display_name,
        "tags": run.tags,
        "group": run.group,
        "job_type": run.job_type,
        "notes": run.notes,
        "created_at": run.created_at,
        "heartbeat_at": run.heartbeat_at,
    }
    snake = re.sub("[A-Z]", lambda match: "_" + match.group().lower(), key)
    if snake not in fields:
        raise GraphQLError(f"filter on an unknown key: {key}", status=400)
    return fields[snake]


def matches(run: Run, condition: Mapping[str, Any]) -> bool:
    """Returns whether a run passes a filter."""
    for key, wanted in condition.items():
        if key == "$and":
            passed = all(matches(run, part) for part in wanted)
        elif key == "$or":
            passed = any(matches(run, part) for part in wanted)
        elif key == "$not":
            passed = not matches(run, wanted)
        elif isinstance(wanted, Mapping) and any(name.startswith("$") for name in wanted):
            value = lookup(run, key)
            unknown = set(wanted) - set(_COMPARE) - {"$options", "$not"}
            if unknown:
                raise GraphQLError(f"unknown filter operators: {sorted(unknown)}", status=400)
            passed = all(_COMPARE[name](value, item) for name, item in wanted.items() if name in _COMPARE)
            if "$not" in wanted:
                passed = passed and not matches(run, {key: wanted["$not"]})
        else:
            passed = contains(lookup(run, key), wanted)
        if not passed:
            return False
    return True


def ordered(runs: list[Run], order: str | None) -> list[Run]:
    """Returns the runs sorted by `+created_at`, `-summary_metrics.loss` and the like; runs without the value last."""
    for part in reversed((order or "").split(",")):
        key = part.strip().lstrip("+-")
        if key:
            values = [(lookup(run, key), run) for run in runs]
            known = [(value, run) for value, run in values if value is not None]
            known.sort(key=lambda pair: pair[0], reverse=part.strip().startswith("-"))
            runs = [run for _, run in known] + [run for value, run in values if value is None]
    return runs
