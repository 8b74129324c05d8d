"""Reports what a LightningModule logs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trackkit.integrations.lightning import _compat
from trackkit.integrations.lightning.null import NullTracker
from trackkit.integrations.lightning.position import Position
from trackkit.schema.keys import BATCH, Split, Where

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from trackkit.engine.tracker import Tracker

_SET = re.compile(r"^(?P<name>.*)/dataloader_idx_(?P<index>\d+)$")


class Logged:
    """Reports each logged value exactly once, and seals the rows the values belong to.

    Lightning passes some values on twice (in evaluations, per batch and per epoch), and some not at all (those of a
    batch at which it does not log itself).

    Attributes:
        tracker: tracker of the open run.
        row_due: whether the row of the step just taken is open until Lightning has logged.
        holds: whether the values of a batch without a step wait for the next step (manual optimization).
    """

    def __init__(self, trainer: Trainer, position: Position) -> None:
        self.tracker: Tracker | NullTracker = NullTracker()
        self.row_due = self.holds = False
        self._trainer = trainer
        self._position = position
        # Whether the last step has made no row; whether Lightning has logged the last batch.
        self._row_missing = self._by_lightning = False
        # Names of the batch's values that were reported without Lightning.
        self._reported: set[str] = set()
        self._evaluation_batch: dict[str, Any] = {}
        # Values of the current optimizer step by name, one for each call of `self.log`; whether it has been taken.
        self._values: dict[str, list[Any]] = {}
        self._stepped = False

    def log(self, name: str, value: Any) -> None:
        """Keeps a value of the current optimizer step."""
        if value is not None:
            self._values.setdefault(name, []).append(value)

    def batch_ends(self, stepped: bool, due: bool) -> None:
        """Assigns later values to the next batch, and keeps a row open for those of this one.

        Args:
            stepped: whether the batch took an optimizer step.
            due: whether that step makes a row.
        """
        self._reported.clear()
        self._stepped = stepped
        if stepped:
            self._row_missing = not due
        if due:
            self.row_due, self._by_lightning = True, False

    def batch_is_over(self) -> None:
        """Seals the open row, once the batch has logged everything, and forgets the values of a step that was taken."""
        if self.row_due:
            self.complete_row()
        if self._stepped:
            self._values.clear()

    def training_ends(self) -> None:
        """Reports the values of batches that no step has followed."""
        if self.holds and self._values:
            values = {name: self._mean(name, values[-1]) for name, values in self._values.items()}
            self.tracker.report(values, BATCH, *self._position.of_weights())
            self._values.clear()

    def evaluation_begins(self) -> None:
        """Forgets the batches of the previous evaluation."""
        self._evaluation_batch.clear()

    def evaluation_sizes(self, split: Split) -> list[tuple[Where, int]]:
        """Returns each set of the evaluation that begins, and its samples; leaves out sets of unknown length."""
        from trackkit.record.run_config import length

        loaders = _compat.evaluation_loaders(self._trainer)
        loaders = list(loaders.values()) if isinstance(loaders, dict) else loaders
        several = loaders if isinstance(loaders, (list, tuple)) else [loaders]
        names = _set_names(self._trainer) if len(several) > 1 else []
        places = [_where(split, index if len(several) > 1 else -1, names) for index in range(len(several))]
        sizes = [length(getattr(each, "dataset", None)) for each in several]
        return [(where, size) for where, size in zip(places, sizes, strict=True) if size is not None]

    def log_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Reports the metrics that Lightning passes to its loggers."""
        trainer = self._trainer
        if trainer.sanity_checking:
            return
        split: Split = "val" if trainer.validating else "test" if trainer.testing else "train"
        in_batch = _compat.in_batch(trainer)
        if in_batch is None:
            return
        if split == "train":
            self._trained(metrics, in_batch)
        elif in_batch:
            self._evaluation_batch.update(metrics)
        else:
            self._evaluated(metrics, split)

    def complete_row(self) -> None:
        """Seals the open row, with the values of its batch that Lightning does not log itself."""
        self.row_due = False
        if not self._by_lightning:
            for name, value in _compat.batch_values(self._trainer):
                self._reported.add(name)
                self.tracker.report({name: self._mean(name, value)}, BATCH, *self._position.of_weights())
        self.tracker.seal()

    def _trained(self, metrics: Mapping[str, Any], in_batch: bool) -> None:
        if self._row_missing and self._trainer.should_stop:
            # The training was stopped after this step was found to make no row.
            self._row_missing = self._by_lightning = False
            self.tracker.last_row()
            if not in_batch:
                self.complete_row()
        if in_batch and self.holds and not self._stepped:
            return
        if in_batch:
            self._by_lightning = True
            metrics = {name: self._mean(name, value) for name, value in metrics.items() if name not in self._reported}
        if metrics:
            self.tracker.report(metrics, BATCH if in_batch else Where("epoch"), *self._position.of_weights())
            if not in_batch:
                self.tracker.seal()

    def _mean(self, name: str, last: Any) -> Any:
        """Returns the mean of all values of the current step; `last` if it is the only one."""
        values = self._values.get(name, ())
        if len(values) < 2 or any(not hasattr(value, "numel") or value.numel() != 1 for value in values):
            return last
        import torch

        return torch.stack([value.detach().reshape(()) for value in values]).mean()

    def _evaluated(self, metrics: Mapping[str, Any], split: Split) -> None:
        """Reports an evaluation, set by set.

        Lightning averages only what is logged per epoch; of the rest the last batch's value is reported.
        """
        last = {name: value for name, value in self._evaluation_batch.items() if _of_epoch(name) not in metrics}
        self._evaluation_batch.clear()
        by_set: dict[int, dict[str, Any]] = {}
        for name, value in {**last, **metrics}.items():
            match = _SET.match(name)
            index, bare = (int(match["index"]), match["name"]) if match else (-1, name)
            by_set.setdefault(index, {})[bare] = value
        names = _set_names(self._trainer) if by_set.keys() - {-1} else []
        for index in sorted(by_set):
            self.tracker.report(by_set[index], _where(split, index, names), *self._position.of_weights())
        self.tracker.seal()


def _where(split: Split, index: int, names: list[str]) -> Where:
    """Returns the event of one evaluation set: named by its name, else its number; -1 is the only set."""
    if index < 0:
        return Where("epoch", split)
    name = names[index] if index < len(names) else f"dataloader_{index}"
    return Where("epoch", split, name, around=("", f"/dataloader_idx_{index}"))


def _set_names(trainer: Trainer) -> list[str]:
    """Returns the names of the evaluation sets; empty unless each name stands for one loader, as each number does."""
    loaders = _compat.evaluation_loaders(trainer)
    if not isinstance(loaders, dict) or any(isinstance(each, (list, tuple, dict)) for each in loaders.values()):
        return []
    return [str(name) for name in loaders]


def _of_epoch(name: str) -> str:
    """Returns Lightning's name for the mean of a value that it has logged per batch as `name`."""
    return re.sub(r"_step(?=$|/dataloader_idx_\d+$)", "_epoch", name)
