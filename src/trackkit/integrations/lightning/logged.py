"""What a LightningModule logs, as it passes Lightning's logger connector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trackkit.schema.keys import Split, Where

_SET = re.compile(r"^(?P<name>.*)/dataloader_idx_(?P<index>\d+)$")


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

    def evaluated(self, metrics: Mapping[str, Any], split: Split) -> list[tuple[Where, dict[str, Any]]]:
        """The evaluation's values, by name, of each of its sets in order."""
        last = {name: value for name, value in self._eval_batch.items() if _of_epoch(name) not in metrics}
        self._eval_batch.clear()
        by_set: dict[int, dict[str, Any]] = {}
        for name, value in {**last, **metrics}.items():
            match = _SET.match(name)
            index, bare = (int(match["index"]), match["name"]) if match else (-1, name)
            by_set.setdefault(index, {})[bare] = value
        names = _set_names(self._trainer) if by_set.keys() - {-1} else []
        return [(_where(split, index, names), by_set[index]) for index in sorted(by_set)]


def _where(split: Split, index: int, names: Sequence[str]) -> Where:
    """One of several evaluation sets, by its name or else its number; the only one where the number is negative."""
    if index < 0:
        return Where("epoch", split)
    name = names[index] if index < len(names) else f"dataloader_{index}"
    return Where("epoch", split, name, around=("", f"/dataloader_idx_{index}"))


def _set_names(trainer: Any) -> list[str]:
    """The names of the sets that are evaluated: Lightning numbers single loaders, so that only theirs stand for one."""
    loaders = trainer._evaluation_loop._combined_loader.iterables
    if not isinstance(loaders, dict) or any(isinstance(each, (list, tuple, dict)) for each in loaders.values()):
        return []
    return [str(name) for name in loaders]


def _of_epoch(name: str) -> str:
    """What Lightning calls the mean of a value that it has logged per batch under `name`."""
    return re.sub(r"_step(?=$|/dataloader_idx_\d+$)", "_epoch", name)
