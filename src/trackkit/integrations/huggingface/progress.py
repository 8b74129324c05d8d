"""Counts what the trainer's state does not: samples seen, which checkpoints store, and the mean loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackkit.integrations.batches import is_of
from trackkit.integrations.huggingface import _compat

# Packages whose samplers give batches that are trained on whole.
_WHOLE = ("torch", "torchdata", "transformers", "accelerate")
_NO_LENGTH = (TypeError, AttributeError, NotImplementedError)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a loader, the trainer's own or the user's. (Hugging Face's callbacks see no batch.)

    Attributes:
        batch: samples of a full batch, over all ranks; None if batches may differ in size.
        batches: batches of an epoch, on each rank; None if the loader has no length.
        epoch: samples of an epoch, over all ranks; None if the loader has no length.
    """

    batch: int | None = None
    batches: int | None = None
    epoch: int | None = None

    @classmethod
    def of(cls, loader: Any, ranks: int, trained: int | None = None) -> Sizes:
        """Returns the sizes of a training's loader.

        Args:
            loader: the training's.
            ranks: number of ranks.
            trained: the trainer's own batch size, in samples on each rank; None if unknown.
        """
        sampler = _compat.bare_batch_sampler(loader)
        # The user's own batch samplers may give batches of any size, whatever their `batch_size` says.
        if not is_of(sampler, "torch", "torchdata"):
            return cls()
        # A sampler that repeats batches may have each trained on in parts, as TRL's does with what it generates.
        if sampler.batch_size != trained and not is_of(sampler.sampler, *_WHOLE):
            return cls()
        batch = int(sampler.batch_size) * (1 if _compat.splits_batches(loader) else ranks)
        try:
            batches, drawn = len(loader), _drawn(loader.dataset, sampler.sampler)
        except _NO_LENGTH:
            return cls(batch)
        return cls(batch, batches, min(batches * batch, drawn if _compat.shares_samples(loader) else drawn * ranks))

    def updates(self, accumulation: int) -> int | None:
        """Returns the optimizer steps of an epoch; None if the loader has no length."""
        return None if self.batches is None else max(math.ceil(self.batches / accumulation), 1)


class Progress:
    """Counts samples over all calls of a training that was resumed.

    Args:
        loader: the training's.
        sizes: of that loader.
        accumulation: batches of an optimizer step.
        step: optimizer steps taken before.
        carried: TrackKit's fields in the checkpoint; empty if it has none.
        skips: whether a resumed epoch skips the batches that were trained on, instead of starting over.

    Attributes:
        fields: plain numbers for checkpoints, updated in place: `samples` seen when step `at` was taken, samples of
            an `update`, and samples that were left in the epoch then (`room`). They are the same whether or not the
            training was interrupted and resumed.
    """

    def __init__(
        self, loader: Any, sizes: Sizes, accumulation: int, step: int, carried: Mapping[str, Any], skips: bool = True
    ) -> None:
        self._loader = loader
        self._sizes = sizes
        updates = sizes.updates(accumulation)
        update = None if sizes.batch is None else sizes.batch * accumulation
        whole, into = divmod(step, updates) if updates else (0, step)
        begun = {
            "samples": None if update is None else whole * (sizes.epoch or 0),
            "at": step - into,
            "update": update,
            "room": sizes.epoch,
        }
        before = _counts(carried) or begun
        if (
            skips
            and before["update"] == update
            and (updates is None or (before["at"], before["room"]) == (step - into, sizes.epoch))
        ):
            self.fields = before
            return
        room = sizes.epoch
        if room is not None and update is not None and skips:
            room -= into * update
        samples = _samples(before, step) if update is not None else None
        self.fields = {"samples": samples, "at": step, "update": update, "room": room}

    def samples(self, step: int) -> int | None:
        """Returns the samples seen over all ranks up to `step`; None if unknown."""
        # Without a length, the size of the last batch is unknown.
        if self._sizes.epoch is None and _compat.at_last_batch(self._loader):
            return None
        return _samples(self.fields, step)

    def epoch_ends(self, step: int, cut: bool) -> None:
        """Starts the count of the next epoch; `cut` says whether this one was stopped before its end."""
        known = cut or self._sizes.epoch is not None
        self.fields["samples"] = self.samples(step) if known else None
        self.fields.update(at=step, room=self._sizes.epoch)


class Losses:
    """Averages the losses that a trainer logs, over all calls of a training that was resumed.

    Args:
        history: the trainer's log history; that of a resumed training begins before the checkpoint.
        step: optimizer steps taken before.
    """

    def __init__(self, history: Sequence[Mapping[str, Any]], step: int) -> None:
        self._sum, self._steps, self._last = 0.0, 0, 0
        for entry in history:
            if "learning_rate" in entry and isinstance(loss := entry.get("loss"), (int, float)):
                self.add(loss, int(entry.get("step", 0)))
        self._first = self._last = step

    def add(self, loss: float, step: int) -> None:
        """Adds the mean loss of the steps since the last log."""
        steps, self._last = step - self._last, step
        self._sum += loss * steps
        self._steps += steps

    def mean(self, framework: float, step: int) -> float | None:
        """Returns the mean loss of the whole training; None if it is unknown, or if this call took no step.

        Args:
            framework: the trainer's own mean. It is wrong for a resumed training: depending on the version, it divides
                the losses of this call by the steps of all calls.
            step: optimizer steps taken.
        """
        if step == self._first:
            return None
        if not self._first:
            return framework
        return self._sum / self._steps if self._steps else None


def _drawn(dataset: Any, sampler: Any) -> int:
    """Returns how many samples an epoch draws: the sampler's number or, for an iterable data set, the data set's."""
    try:
        return len(sampler)
    except _NO_LENGTH:
        return len(dataset)


def _counts(carried: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the counts in a checkpoint; None if it has none."""
    before = carried.get("progress")
    names = ("samples", "at", "update", "room")
    return {name: before[name] for name in names} if isinstance(before, dict) and before.keys() >= set(names) else None


def _samples(fields: Mapping[str, Any], step: int) -> int | None:
    if fields["samples"] is None or fields["update"] is None:
        return None
    drawn = (step - fields["at"]) * fields["update"]
    return int(fields["samples"] + (drawn if fields["room"] is None else min(drawn, fields["room"])))
