"""Returns history as the service does: pages, samples, keys."""

from __future__ import annotations

import json
from typing import Any

from .runs import HISTORY, Run
from .service import dumps


def spread(rows: list[Any], samples: int | None) -> list[Any]:
    """Returns at most `samples` rows, evenly spread, with the first and the last."""
    if not samples or len(rows) <= samples:
        return rows
    if samples == 1:
        return rows[-1:]
    return [rows[round(index * (len(rows) - 1) / (samples - 1))] for index in range(samples)]


def history_rows(run: Run) -> list[dict[str, Any]]:
    """Returns the history rows as the service shows them.

    In shared mode each writer counts its own steps from 0; the service numbers the rows in order of arrival.
    """
    rows = run.rows(HISTORY)
    if run.clients:
        return [{**row, "_step": index} for index, row in enumerate(rows)]
    return [{"_step": index, **row} for index, row in enumerate(rows)]


def history(run: Run, arguments: dict[str, Any]) -> list[str]:
    """Returns rows from `minStep` up to `maxStep` (not included), as JSON lines."""
    low, high = arguments.get("minStep"), arguments.get("maxStep")
    rows = [
        row
        for row in history_rows(run)
        if (low is None or row["_step"] >= int(low)) and (high is None or row["_step"] < int(high))
    ]
    return [dumps(row) for row in spread(rows, arguments.get("samples"))]


def sampled_history(run: Run, arguments: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Returns for each spec the rows that have all its keys, with these keys only; `maxStep` is included."""
    answer: list[list[dict[str, Any]]] = []
    for text in arguments["specs"]:
        spec = json.loads(text)
        keys: list[str] = spec.get("keys") or []
        low, high = spec.get("minStep", 0), spec.get("maxStep", float("inf"))
        rows = [
            {key: row[key] for key in keys or row}
            for row in history_rows(run)
            if low <= row["_step"] <= high and all(key in row for key in keys)
        ]
        answer.append(json.loads(dumps(spread(rows, spec.get("samples")))))
    return answer


def history_keys(run: Run) -> dict[str, Any] | None:
    """Returns the last step, and for each key the number of its values and the newest value."""
    rows = history_rows(run)
    if not rows:
        return None
    keys: dict[str, Any] = {}
    for row in rows:
        for key, value in row.items():
            kind = "number" if isinstance(value, (int, float)) else "string" if isinstance(value, str) else "map"
            count = keys[key]["typeCounts"][0]["count"] if key in keys else 0
            keys[key] = {"typeCounts": [{"type": kind, "count": count + 1}], "previousValue": value}
    found: dict[str, Any] = json.loads(dumps({"lastStep": max(row["_step"] for row in rows), "keys": keys}))
    return found


def wandb_config(run: Run, keys: list[str] | None) -> str:
    """Returns the client's own record inside the config; with it, the client knows that a run has started."""
    record = run.raw_config.get("_wandb", {}).get("value", {})
    return dumps({key: value for key, value in record.items() if keys is None or key in keys})
