"""Rows of a local log that no W&B file has, as W&B gets them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from trackkit.integrations.wandb.axes import define
from trackkit.integrations.wandb.files import parse


class LogRow(NamedTuple):
    """A row of a local log.

    Attributes:
        step: its own; in what `placed` gives, W&B's.
        time: Unix time in seconds.
        values: its keys, axes included.
    """

    step: int
    time: float
    values: Mapping[str, Any]


def placed(rows: Iterable[LogRow], above: int) -> list[LogRow]:
    """Gives rows a step of W&B's: their own where that lies above `above`, else the next; those of one step are merged.

    W&B takes nothing at or below its last step. The axis keys in a row carry the truth.
    """
    found: list[LogRow] = []
    own = -1
    for row in rows:
        if found and row.step == own and not _differing(found[-1].values, row.values):
            found[-1] = found[-1]._replace(time=row.time, values={**found[-1].values, **row.values})
            continue
        above, own = max(above + 1, row.step), row.step
        found.append(LogRow(above, row.time, row.values))
    return found


def history_record(row: LogRow) -> bytes:
    """A row at W&B's step as a serialized record of a transaction log."""
    record = parse(b"")
    for key, value in {**row.values, "_timestamp": row.time, "_step": row.step}.items():
        record.history.item.add(nested_key=[key], value_json=json.dumps(value))
    record.history.step.num = row.step
    return bytes(record.SerializeToString())


def definition_record(key: str, epoch_axis: str) -> bytes:
    """What `define` tells W&B of a key, as a serialized record of a transaction log."""
    definition = _Definition()
    define(definition, key, epoch_axis)
    return definition.record


class _Definition:
    record = b""

    def define_metric(self, name: str, step_metric: str | None = None, *, summary: str | None = None) -> None:
        record = parse(b"")
        record.metric.name = name
        record.metric.options.defined = True
        if step_metric is not None:
            record.metric.step_metric = step_metric
            record.metric.options.step_sync = True
        if summary == "none":
            record.metric.summary.none = True
        self.record = record.SerializeToString()


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    return {key for key in new if key in old and old[key] != new[key]}
