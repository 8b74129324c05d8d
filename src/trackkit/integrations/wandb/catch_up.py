"""What a resumed training still has to say to W&B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trackkit.engine.attempts import counted, highest_steps
from trackkit.engine.records import Row
from trackkit.integrations.wandb.held import Held
from trackkit.notices import logger
from trackkit.schema.keys import AXES

if TYPE_CHECKING:
    from trackkit.engine.run_info import History


class FirstPass:
    """Of steps that a resumed training takes again W&B keeps the first pass.

    Args:
        written: the last step of each key that W&B has had.
        floors: tier to a step up to which it has had everything.
    """

    def __init__(self, written: Mapping[str, int] | None = None, floors: Mapping[str, int] | None = None) -> None:
        self._written = dict(written or {})
        self._floors = dict(floors or {})
        self._told = False

    @classmethod
    def of(cls, held: Held, earlier: History) -> FirstPass:
        """That of a run whose earlier passes W&B has."""
        if earlier.rows or not held.ends:
            return cls(highest_steps(earlier.rows))
        # The local log stayed behind: the keys of each step are not known, but W&B has them up to its last ones.
        highest = max(step for step, _ in held.ends.values())
        return cls(floors={tier: held.ends.get(f"{tier}/step", (highest,))[0] for tier in ("batch", "epoch")})

    def new(self, row: Row) -> dict[str, float | int]:
        """What of a row W&B has not had; nothing where only axes are left."""
        if row.step <= self._floors.get(row.tier, -1):
            self._tell(row)
            return {}
        values = dict(row.values)
        if self._written:
            values = {key: value for key, value in values.items() if row.step > self._written.get(key, -1)}
            if values.keys() <= AXES:
                return {}
            values.update({key: row.values[key] for key in AXES if key in row.values})
        return values

    def _tell(self, row: Row) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "W&B has this run up to step %d already, and keeps what it has: rows up to there are in the local log "
                "alone; for a run of its own set 'resume: never' and no WANDB_RUN_ID",
                self._floors[row.tier],
            )


def lacking(held: Held, earlier: History) -> Sequence[Row]:
    """Rows of earlier passes, from the local log, that W&B lacks: it gets them in order, so those behind its last."""
    if held.all:
        return []
    rows = counted(earlier.rows, "first")
    return rows[max((number for number, row in enumerate(rows, 1) if _is_last(row, held)), default=0) :]


def _is_last(row: Row, held: Held) -> bool:
    """Whether W&B has this row, and nothing behind it on its axis. Rows of one step may have become one at W&B."""
    step, keys = held.ends.get(f"{row.tier}/step", (-1, frozenset()))
    return row.step == step and any(key in keys for key in row.values if key not in AXES)
