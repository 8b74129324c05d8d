"""What W&B has of a run that a training goes on in."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.engine.run_info import RunInfo
from trackkit.integrations.wandb.asking import ASK_S, Unanswered, ask
from trackkit.integrations.wandb.files import find_files, read_history
from trackkit.notices import logger

if TYPE_CHECKING:
    import wandb

_AXES = ("batch/step", "epoch/step")
_PAGE = 1000


@dataclass(frozen=True)
class Held:
    """What W&B has of a run: told by our own axes, since others push W&B's count of steps on.

    Attributes:
        last: the last step by W&B's count; -1 where it has none.
        ends: for each axis key its value in the last row that has it, and that row's keys.
        all: whether nothing is lacking, or that can't be known.
    """

    last: int = -1
    ends: Mapping[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    all: bool = False


def held(run: wandb.Run, info: RunInfo) -> Held:
    """What there is of the run before this process: on the server, or offline in the files of earlier processes."""
    if run.offline:
        return _in_files(run, info)
    last = run.starting_step - 1
    if last < 0:
        return Held()
    path = f"{run.entity}/{run.project}/{run.id}"
    try:
        return Held(last, _ends(ask(lambda api: _tail(api, path, last))))
    except Unanswered as error:
        logger.warning("which rows of run '%s' W&B has, is known by its last step alone: %s", run.id, error)
        return Held(last, dict.fromkeys(_AXES, (last, frozenset())))


def _in_files(run: wandb.Run, info: RunInfo) -> Held:
    """Where the files are gone they were uploaded: then nothing is lacking."""
    mine = Path(run.dir).parent
    files = [path for path in find_files(info.root, info.run_id) if path.parent != mine]
    last = -1

    def rows() -> Iterable[Mapping[str, Any]]:
        nonlocal last
        for path in files:
            for row in read_history(path):
                last = max(last, int(row["_step"]))
                yield row

    ends = _ends(rows())
    return Held(last, ends, all=not files)


def _ends(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, frozenset[str]]]:
    ends: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        for axis in _AXES:
            if axis in row:
                ends[axis] = row
    return {axis: (int(row[axis]), frozenset(row)) for axis, row in ends.items()}


def _tail(api: wandb.Api, path: str, last: int) -> list[dict[str, Any]]:
    """The server's history from one of our rows on to its end. What it has just taken may show a moment later."""
    deadline = time.monotonic() + ASK_S
    while (run := api.run(path)).lastHistoryStep < last and time.monotonic() < deadline:
        time.sleep(0.5)
        api.flush()  # type: ignore[no-untyped-call]
    high, size = last + 1, _PAGE
    while True:
        low = max(0, high - size)
        scan = run.scan_history(page_size=_PAGE, min_step=low, max_step=high, use_cache=False)
        rows = [{key: value for key, value in row.items() if value is not None} for row in scan]
        if low == 0 or any(axis in row for row in rows for axis in _AXES):
            return rows
        high, size = low, 2 * size
