"""What a LightningModule logs, as it passes Lightning's logger connector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trackkit.records import Split

SET = re.compile(r"^(?P<name>.*)/dataloader_idx_(?P<index>\d+)$")


class Logged:
    """Keeps what Lightning passes on twice, or not at all, so that each value is recorded exactly once."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._saved: set[str] = set()
        self._eval_batch: dict[str, Any] = {}

    # -- a training step -----------------------------------------------------------------------------------------

    def batch_ends(self) -> None:
        """What is logged from now on belongs to the next batch."""
        self._saved.clear()

    def new(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """What of a batch's metrics `left_over` has not given before."""
        return {name: value for name, value in metrics.items() if name not in self._saved}

    def left_over(self) -> Iterator[tuple[str, Any]]:
        """What the last batch logged, where Lightning itself does not pass it on: it is still in its results."""
        results = self._trainer._results
        for _, item in results.valid_items():
            value = results._get_cache(item, True)
            if item.meta.logger and value is not None:
                name = results._forked_name(item, True)[1]
                self._saved.add(name)
                yield name, value

    # -- an evaluation -------------------------------------------------------------------------------------------

    def evaluation_begins(self) -> None:
        """Forgets the batches of the last one."""
        self._eval_batch.clear()

    def evaluated_batch(self, metrics: Mapping[str, Any]) -> None:
        """A value logged per batch only has no epoch value of Lightning's: its last one stands for the evaluation."""
        self._eval_batch.update(metrics)

    def evaluated(self, metrics: Mapping[str, Any], split: Split) -> dict[str, dict[str, Any]]:
        """The evaluation's values by set ("" for the only one), then by name."""
        whole = {_stem(name) for name in metrics}
        last = {name: value for name, value in self._eval_batch.items() if _stem(name) not in whole}
        self._eval_batch.clear()
        by_set: dict[str, dict[str, Any]] = {}
        for name, value in {**last, **metrics}.items():
            match = SET.match(name)
            dataset = set_name(self._trainer, split, int(match["index"])) if match else ""
            by_set.setdefault(dataset, {})[match["name"] if match else name] = value
        return by_set


def set_name(trainer: Any, split: Split, index: int) -> str:
    """One of several evaluation sets: by the name that its loader was given, else by its number."""
    loaders = trainer.val_dataloaders if split == "val" else trainer.test_dataloaders
    if isinstance(loaders, dict) and index < len(loaders):
        return re.sub(r"[^A-Za-z0-9_]+", "_", str(list(loaders)[index]))
    return f"dataloader_{index}"


def _stem(name: str) -> str:
    match = SET.match(name)
    bare, index = (match["name"], match["index"]) if match else (name, "")
    return f"{re.sub(r'_(?:step|epoch)$', '', bare)}/{index}"
