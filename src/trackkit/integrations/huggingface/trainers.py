"""Finds the adapter of the trainer that calls a hook."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from trackkit.integrations.huggingface import _compat
from trackkit.integrations.huggingface.adapter import HuggingFaceAdapter, NullAdapter
from trackkit.notices import ensure_heard, logger

if TYPE_CHECKING:
    from trackkit.integrations.guard import Kit


class Trainers:
    """The trainers that use one TrackKit, with an adapter each. Keeps no trainer alive.

    A trainer is recognized by its callback handler, the only object of its own that hooks can find: trainers may share
    arguments and models, and the state is a new object in each training.

    Args:
        kit: the TrackKit.
        hooks: the class that marks a callback as a TrackKit.
    """

    def __init__(self, kit: Kit, hooks: type) -> None:
        self._kit = kit
        self._disabled = kit.disabled
        self._hooks = hooks
        self._adapters: weakref.WeakKeyDictionary[Any, HuggingFaceAdapter] = weakref.WeakKeyDictionary()
        self._used = False

    def adapter(self) -> NullAdapter:
        """Returns the adapter of the calling trainer; a null one if it is not recorded, or by another TrackKit."""
        handler = _compat.calling_handler()
        kits = _compat.kits_of(handler, self._hooks)
        candidates = [each for each in kits if not each.yields] or kits
        if self._disabled or (self._kit in kits and candidates[-1] is not self._kit):
            return NullAdapter()
        trainer = self._kit if handler is None else handler
        return self._adapters.get(trainer) or self._add(trainer, len(candidates))

    def _add(self, trainer: Any, kits: int) -> HuggingFaceAdapter:
        if kits > 1:
            ensure_heard()
            logger.warning(
                "This trainer has several TrackKits, from 'report_to' or 'callbacks'. "
                "Only the last one records; remove the others."
            )
        runs = self._kit.more_runs() if self._used else self._kit.runs
        self._used = True
        adapter = self._adapters[trainer] = HuggingFaceAdapter(self._kit, runs)
        return adapter
