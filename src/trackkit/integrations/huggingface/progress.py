"""How far a training has come, in what the trainer's state leaves out: a checkpoint carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trackkit.integrations.huggingface.sizes import Sizes

_KEY = "progress"


class Progress:
    """Samples seen and the mean loss, over all calls of a training that was resumed.

    Args:
        loader: what is trained on.
        sizes: the loader's.
        accumulation: batches of an optimizer step.
        step: optimizer steps taken before.
        carried: the fields that the checkpoint carries; empty where there is none, or it is not TrackKit's.
        skips: whether a resumed pass goes on where it was, rather than at its beginning.

    Attributes:
        fields: plain numbers, kept up to date in place, for a checkpoint to carry.
    """

    def __init__(
        self, loader: Any, sizes: Sizes, accumulation: int, step: int, carried: Mapping[str, Any], skips: bool = True
    ) -> None:
        self._loader = loader
        self._sizes = sizes
        self._last_logged = step
        updates = sizes.updates(accumulation)
        update = None if sizes.batch is None else sizes.batch * accumulation
        whole, into = divmod(step, updates) if updates else (0, step)
        mine = {"samples": whole * (sizes.epoch or 0), "at": whole * (updates or 0), "update": update}
        mine["room"] = sizes.epoch
        before: Mapping[str, Any] = carried.get(_KEY, {})
        room = sizes.epoch
        if room is not None and update is not None and skips:
            room -= into * update
        self.fields: dict[str, Any] = {
            "samples": _samples(before or mine, step) if update is not None else None,
            "at": step,
            "update": update,
            "room": room,
            "loss": before.get("loss", 0.0),
            "loss_steps": before.get("loss_steps", 0),
        }
        self._begun, self._before = step, (self.fields["loss"], self.fields["loss_steps"])

    def carry(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """`attributes` of a run with these: what a checkpoint is to carry."""
        return {**attributes, _KEY: self.fields}

    def samples(self, step: int) -> int | None:
        """Seen over all ranks, up to `step`; None where unknown."""
        # A loader without a length does not tell how full its last batch is; Accelerate's tell that it is the last.
        if self._sizes.epoch is None and getattr(self._loader, "end_of_dataloader", False):
            return None
        return _samples(self.fields, step)

    def epoch_ends(self, step: int, cut: bool) -> None:
        """A pass is over; `cut` where it was not to its end."""
        known = cut or self._sizes.epoch is not None
        self.fields["samples"] = self.samples(step) if known else None
        self.fields.update(at=step, room=self._sizes.epoch)

    def logged(self, loss: float, step: int) -> None:
        """The trainer has logged the mean loss of its steps since its last log."""
        steps, self._last_logged = step - self._last_logged, step
        self.fields["loss"] += loss * steps
        self.fields["loss_steps"] += steps

    def mean_loss(self, loss: float, step: int) -> float | None:
        """Over the whole training, from that of this call: None where the call has taken no step."""
        steps = step - self._begun
        total, before = self._before
        if not before:
            return loss if steps else None
        return (total + loss * steps) / (before + steps) if steps else None


def _samples(fields: Mapping[str, Any], step: int) -> int | None:
    if fields["samples"] is None or fields["update"] is None:
        return None
    taken = (step - fields["at"]) * fields["update"]
    return int(fields["samples"] + (taken if fields["room"] is None else min(taken, fields["room"])))
