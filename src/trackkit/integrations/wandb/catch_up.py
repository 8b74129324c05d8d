"""Brings a resumed run up to date: what W&B has of it, which earlier rows it lacks, which later values it has."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.engine.attempts import counted, highest_steps
from trackkit.engine.records import Row
from trackkit.engine.run_info import RunInfo
from trackkit.integrations.wandb.files import find_files, read_history
from trackkit.integrations.wandb.server import ASK_S, Unanswered, ask
from trackkit.notices import logger
from trackkit.schema.keys import AXES

if TYPE_CHECKING:
    import wandb

    from trackkit.engine.run_info import History

_STEP_AXES = ("batch/step", "epoch/step")
_PAGE = 1000


@dataclass(frozen=True)
class Held:
    """What W&B has of a run from earlier attempts.

    Attributes:
        last: last step by W&B's own counter; -1 for none. Other loggers may have moved it past TrackKit's steps.
        ends: axis key to its value in the last row that has it, and that row's keys.
        up_to_date: whether W&B lacks nothing, or that cannot be known.
    """

    last: int = -1
    ends: Mapping[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    up_to_date: bool = False


def read_held(run: wandb.Run, info: RunInfo) -> Held:
    """Returns what W&B had of a run before this process: on the server, or offline in the files of earlier attempts."""
    if run.offline:
        return _read_files(run, info)
    last = run.starting_step - 1
    if last < 0:
        return Held()
    path = f"{run.entity}/{run.project}/{run.id}"
    try:
        return Held(last, _ends(ask(lambda api: _tail(api, path, last))))
    except Unanswered as error:
        logger.warning(
            "Cannot read the rows of run '%s' from W&B (%s). Rows up to W&B's last step, %d, are not sent again.",
            run.id,
            error,
            last,
        )
        return Held(last, dict.fromkeys(_STEP_AXES, (last, frozenset())))


def missing_rows(held: Held, earlier: History) -> Sequence[Row]:
    """Returns the rows of earlier attempts that W&B lacks: those after its last, since it receives them in order."""
    if held.up_to_date:
        return []
    rows = counted(earlier.rows, "first")
    return rows[max((number for number, row in enumerate(rows, 1) if _is_last(row, held)), default=0) :]


def last_written(held: Held, earlier: History) -> tuple[dict[str, int], dict[str, int]]:
    """Returns what W&B has from earlier attempts: key to its last step, and tier to the step up to which it has all."""
    if earlier.rows or not held.ends:
        return highest_steps(earlier.rows), {}
    # Without the earlier local log the keys of each step are unknown, but W&B has them up to its last rows.
    highest = max(step for step, _ in held.ends.values())
    return {}, {tier: held.ends.get(f"{tier}/step", (highest,))[0] for tier in ("batch", "epoch")}


def _is_last(row: Row, held: Held) -> bool:
    """Returns whether W&B has this row and nothing after it on its axis. W&B may have merged rows of one step."""
    step, keys = held.ends.get(f"{row.tier}/step", (-1, frozenset()))
    return row.step == step and any(key in keys for key in row.values if key not in AXES)


def _read_files(run: wandb.Run, info: RunInfo) -> Held:
    own = Path(run.dir).parent
    files = [path for path in find_files(info.root, info.run_id) if path.parent != own]
    last = -1

    def rows() -> Iterable[Mapping[str, Any]]:
        nonlocal last
        for path in files:
            for row in read_history(path):
                last = max(last, int(row["_step"]))
                yield row

    ends = _ends(rows())
    # Deleted files were uploaded before: then nothing is missing.
    return Held(last, ends, up_to_date=not files)


def _ends(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, frozenset[str]]]:
    ends: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        for axis in _STEP_AXES:
            if axis in row:
                ends[axis] = row
    return {axis: (int(row[axis]), frozenset(row)) for axis, row in ends.items()}


def _tail(api: wandb.Api, path: str, last: int) -> list[dict[str, Any]]:
    """Returns the server's history from one of TrackKit's rows to the end; waits until it shows step `last`."""
    deadline = time.monotonic() + ASK_S
    while (run := api.run(path)).lastHistoryStep < last and time.monotonic() < deadline:
        time.sleep(0.5)
        api.flush()  # type: ignore[no-untyped-call]
    high, size = last + 1, _PAGE
    while True:
        low = max(0, high - size)
        scan = run.scan_history(page_size=_PAGE, min_step=low, max_step=high, use_cache=False)
        rows = [{key: value for key, value in row.items() if value is not None} for row in scan]
        if low == 0 or any(axis in row for row in rows for axis in _STEP_AXES):
            return rows
        high, size = low, 2 * size
