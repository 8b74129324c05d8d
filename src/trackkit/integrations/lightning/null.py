"""Stand-ins for what does not exist until a run is open: they ignore every call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackkit.session.session import Phase


def _ignore(self: object, *args: object, **kwargs: object) -> None:
    """Does nothing."""


class NullAdapter:
    """Replaces `LightningAdapter` while no trainer is recorded."""

    fit_begins = before_step = batch_ends = fit_ends = failed = detach = _ignore
    evaluation_begins = evaluation_ends = saving_begins = checkpoint_loaded = state_loaded = _ignore


class NullTracker:
    """Replaces `Tracker` until a run is open."""

    seen = (0, 0)
    source, evaluating = "", False
    batch = parts = row = skipped = report = seal = last_row = pause = flush = evaluates = checkpoint = _ignore


class NullSession:
    """Replaces `Session` until a run is open. No error can end it."""

    phase: Phase = "fitted"
    tracker = NullTracker()
    end = evaluated = close = _ignore

    def checkpoint_fields(self, counted: bool = False) -> Mapping[str, Any]:
        """Returns nothing: a checkpoint belongs to no run."""
        return {}


class NullOptimization:
    """Replaces `Optimization` until a fit is recorded."""

    before_step = close = _ignore

    def batch_ends(self, batch_idx: int) -> tuple[int, int, bool]:
        """Returns no steps and no row."""
        return 0, 0, False
