"""Which trainer calls, and whether this TrackKit is the one that records it."""

from __future__ import annotations

import sys
import weakref
from types import FrameType
from typing import Any

from trackkit.integrations.huggingface.adapter import HuggingFaceAdapter
from trackkit.integrations.huggingface.hooks import HuggingFaceHooks
from trackkit.notices import ensure_heard, logger


class Trainers:
    """The trainers that one TrackKit stands in, each with an adapter of its own; none is kept alive.

    A trainer is known by its callback handler. Nothing that a hook is given will do: arguments and models are shared
    by trainers, the state is another in each training, and none knows the callbacks beside this one.
    """

    def __init__(self, kit: Any) -> None:
        self._kit = kit
        self._adapters: weakref.WeakKeyDictionary[Any, HuggingFaceAdapter] = weakref.WeakKeyDictionary()
        self._used = False

    def adapter(self) -> HuggingFaceAdapter | None:
        """Of the trainer that calls; None where nothing is recorded of it, or by another TrackKit."""
        handler = _calling_handler()
        kits = [each for each in getattr(handler, "callbacks", ()) if isinstance(each, HuggingFaceHooks)]
        if self._kit.disabled or (self._kit in kits and kits[-1] is not self._kit):
            return None
        trainer = self._kit if handler is None else handler
        known = self._adapters.get(trainer)
        if known is None:
            if len(kits) > 1:
                ensure_heard()
                logger.warning("this trainer has two TrackKits, by 'report_to' and in 'callbacks': the latter records")
            runs = self._kit.more_runs() if self._used else self._kit.runs
            self._used = True
            known = self._adapters[trainer] = HuggingFaceAdapter(self._kit, runs)
        return known


def _calling_handler() -> Any:
    """The callback handler that has called the hook; None where something else has."""
    from transformers.trainer_callback import CallbackHandler

    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "call_event" and isinstance(handler := frame.f_locals.get("self"), CallbackHandler):
            return handler
        frame = frame.f_back
    return None
