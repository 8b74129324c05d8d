"""In a W&B sweep: the sweep's metric is written under the name that the sweep asks for, too."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from trackkit.engine.records import Row
from trackkit.integrations.wandb.asking import Unanswered, ask
from trackkit.notices import logger
from trackkit.schema.keys import AXES, BATCH, Where, canonical, sanitize

if TYPE_CHECKING:
    import wandb

    from trackkit.schema.keys import Split

# A run that is online has just been taken by the server.
ASK_S = 10.0


class SweepMetric:
    """Tells which key a sweep means.

    The name that a value was logged under comes first, and an epoch's value before a batch's. Else the name is read as
    the schema reads names: `val_loss` and `eval/loss` are `epoch/val/loss`, `loss` and `train/loss` are `batch/loss`.

    Args:
        name: what the sweep calls its metric; "" where there is no sweep.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        # The summary has its columns at the end, whatever history has.
        self._met = not name or name.startswith("final/")
        self._rank = 0

    @classmethod
    def of(cls, run: wandb.Run) -> SweepMetric:
        """That of the run's sweep, if it is one's."""
        if run.sweep_id is None or run.offline:
            return cls()
        try:
            return cls(_asked(f"{run.entity}/{run.project}/{run.sweep_id}"))
        except Unanswered as error:
            logger.warning("the sweep's metric is written under TrackKit's own name only: %s", error)
            return cls()

    def key(self, row: Row) -> str:
        """The key of the row whose value goes under `name` as well; "" for none."""
        if not self.name:
            return ""
        ranked = max(((self._fits(key, row), key) for key in row.values if key not in AXES), default=(0, ""))
        rank, key = ranked
        if not rank or rank < self._rank:
            return ""
        self._rank, self._met = rank, True
        return "" if key == self.name else key

    def tell(self) -> None:
        """Says so where the sweep has looked for what was never there."""
        if not self._met:
            logger.warning(
                "a sweep compares its runs by its metric, and '%s' was never logged; in the sweep's configuration give "
                "a name that your code logs, or one of TrackKit's, such as 'epoch/val/loss'",
                self.name,
            )

    def _fits(self, key: str, row: Row) -> int:
        """0 where the key is not meant; else the higher the surer."""
        epoch = row.tier == "epoch"
        logged = row.origins.get(key, "")
        if self.name in (key, logged, logged.removesuffix("_epoch") if epoch else logged):
            return 3 + epoch
        return (1 + epoch) * self._says(key)

    def _says(self, key: str) -> bool:
        """Whether the name, read by the schema's rules, is this key. A name without a split is a training step's."""
        if key.startswith("batch/"):
            return BATCH.prefix + canonical(self.name, BATCH) == key
        split: Split
        for split in ("val", "test"):
            where = Where("epoch", split)
            short = canonical(self.name, where)
            if short != sanitize(self.name) and where.prefix + short == key:
                return True
        return False


@functools.cache
def _asked(path: str) -> str:
    """The metric of a sweep, `entity/project/sweep_id`; "" where it has none. One agent runs many trials of it."""
    config = ask(lambda api: api.sweep(path).config, ASK_S)  # type: ignore[no-untyped-call]
    return str((config.get("metric") or {}).get("name") or "")
