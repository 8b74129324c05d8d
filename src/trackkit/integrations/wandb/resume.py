"""What a resumed training still has to say to W&B."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trackkit.integrations.wandb.file import find_files, read_history
from trackkit.integrations.wandb.place import Place
from trackkit.records import Row, RunInfo
from trackkit.schema import AXES

if TYPE_CHECKING:
    import wandb

    from trackkit.resume import Earlier


class FirstPass:
    """Of steps that a resumed training takes again W&B keeps the first pass.

    Args:
        written: the last step of each key that W&B has had.
        floor: a step up to which it has had everything.
    """

    def __init__(self, written: Mapping[str, int] | None = None, floor: int = -1) -> None:
        self._written = dict(written or {})
        self._floor = floor

    @classmethod
    def of(cls, run: wandb.Run, earlier: Earlier, info: RunInfo) -> FirstPass:
        """That of a run whose earlier passes W&B has."""
        # Where the local log stayed behind, what W&B has is known by its last step alone.
        behind = not earlier.rows and info.step is not None and not run.offline
        return cls(earlier.latest(), run.starting_step - 1 if behind else -1)

    def new(self, row: Row) -> dict[str, float | int]:
        """What of a row W&B has not had; nothing where only axes are left."""
        if row.step <= self._floor:
            return {}
        values = dict(row.values)
        if self._written:
            values = {key: value for key, value in values.items() if row.step > self._written.get(key, -1)}
            if values.keys() <= AXES:
                return {}
            values.update({key: row.values[key] for key in AXES if key in row.values})
        return values


def lacking(run: wandb.Run, earlier: Earlier, info: RunInfo) -> list[Row]:
    """Rows of earlier passes, from the local log, that W&B lacks: those beyond the last step that it has."""
    has = run.starting_step - 1 if not run.offline else _offline_step(run, info)
    place, rows, written = Place(), [], dict[str, int]()
    for row in earlier.rows:
        if any(row.step > written.get(key, -1) for key in row.values):
            place.take(row.step, row.values, -1)
            if place.step > has:
                rows.append(row)
            written.update(dict.fromkeys(row.values, row.step))
    return rows


def _offline_step(run: wandb.Run, info: RunInfo) -> int:
    """The last step in this run's earlier offline files; everything, where they are gone: they were uploaded."""
    files = find_files(info.root, info.run_id, "offline-run")
    mine = Path(run.dir).parent
    steps = [row["_step"] for path in files if path.parent != mine for row in read_history(path)]
    return max(steps, default=1 << 62 if len(files) < 2 else -1)
