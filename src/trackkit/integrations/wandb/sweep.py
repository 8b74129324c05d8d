"""In a W&B sweep, finds the values of the sweep's metric: they are logged under the sweep's name, too."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from trackkit.engine.records import Row
from trackkit.integrations.wandb.server import Unanswered, ask
from trackkit.notices import logger
from trackkit.schema.keys import AXES, BATCH, Where, canonical, sanitize

if TYPE_CHECKING:
    import wandb

    from trackkit.schema.keys import Split

# The server has just accepted the run, so it answers soon.
ASK_S = 10.0


class SweepMetric:
    """Finds the key that a sweep's metric means.

    The name that a value was logged under comes first, and an epoch's value before a batch's. Otherwise the name is
    read by the schema's rules: `val_loss` and `eval/loss` mean `epoch/val/loss`, `loss` and `train/loss` mean
    `batch/loss`.

    Args:
        name: the sweep's metric; "" outside of a sweep.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        # The summary's columns are written at the end, whatever history has.
        self._found = not name or name.startswith("final/")
        self._rank = 0

    @classmethod
    def of(cls, run: wandb.Run) -> SweepMetric:
        """Returns the metric of the run's sweep; one that finds nothing outside of a sweep."""
        if run.sweep_id is None or run.offline:
            return cls()
        path = f"{run.entity}/{run.project}/{run.sweep_id}"
        try:
            return cls(_metric_name(path))
        except Unanswered as error:
            logger.warning("Cannot read sweep '%s' (%s); its metric is logged only under TrackKit's name.", path, error)
            return cls()

    def key(self, row: Row) -> str:
        """Returns the key of the row whose value is logged under `name` as well; "" for none."""
        rank, key = max(((self._match(key, row), key) for key in row.values if key not in AXES), default=(0, ""))
        if not rank or rank < self._rank:
            return ""
        self._rank, self._found = rank, True
        return "" if key == self.name else key

    def warn_if_never_logged(self) -> None:
        """Warns if no row had a value for the sweep's metric."""
        if not self._found:
            logger.warning(
                "This sweep compares its runs by '%s', which was never logged. In the sweep's configuration, name a "
                "metric that your code logs or one of TrackKit's, such as 'epoch/val/loss'.",
                self.name,
            )

    def _match(self, key: str, row: Row) -> int:
        """Returns how surely the metric means a key; 0 if it does not."""
        epoch = row.tier == "epoch"
        logged = row.origins.get(key, "")
        if self.name in (key, logged, logged.removesuffix("_epoch") if epoch else logged):
            return 3 + epoch
        return (1 + epoch) * self._canonical_is(key)

    def _canonical_is(self, key: str) -> bool:
        """Returns whether the schema turns the name into this key. A name without a split is a training step's."""
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
def _metric_name(path: str) -> str:
    """Returns the metric of a sweep, `entity/project/sweep_id`; "" for none. Cached: one agent runs many trials."""
    config = ask(lambda api: api.sweep(path).config, ASK_S)  # type: ignore[no-untyped-call]
    return str((config.get("metric") or {}).get("name") or "")
