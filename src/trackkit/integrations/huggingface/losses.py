"""Reports the parts of the loss that a Hugging Face training computes, and its loss by data source."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trackkit.integrations.batches import loss_parts, source_of
from trackkit.integrations.guard import Kit, call_guarded
from trackkit.integrations.huggingface import _compat
from trackkit.integrations.patches import Patch

if TYPE_CHECKING:
    from trackkit.engine.tracker import Tracker

# A model that has given no part in so many batches gives none: a hook costs a few microseconds.
_LOOKS = 20


class LossParts:
    """Follows the batches of one training: what the model gives beside its loss, and the loss by data source.

    Args:
        kit: the TrackKit that records the trainer.
        tracker: of the run.
        trainer: the trainer.
    """

    def __init__(self, kit: Kit, tracker: Tracker, trainer: Any) -> None:
        self._kit, self._tracker, self._trainer = kit, tracker, trainer
        # Batches in which the model is still looked at for parts.
        self._looks = _LOOKS
        self._patch = Patch(trainer, "compute_loss", self._compute_loss)

    def ends(self) -> None:
        """Restores the trainer's own method."""
        self._patch.remove()

    def _compute_loss(self, original: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        def compute_loss(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return original(model, inputs, *args, **kwargs)
            # The trainer's own method may take the field out.
            self._tracker.source = call_guarded(self._kit, "compute_loss", source_of, inputs) or ""
            if self._looks:
                loss = self._watched(original, model, inputs, *args, **kwargs)
            else:
                loss = original(model, inputs, *args, **kwargs)
            if self._tracker.source:
                call_guarded(self._kit, "compute_loss", self._sourced, loss, kwargs.get("num_items_in_batch"))
            return loss

        return compute_loss

    def _watched(self, original: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls `original` with a hook on the model, which has none before or after: copies and files neither."""
        self._looks -= 1
        hook = call_guarded(self._kit, "compute_loss", model.register_forward_hook, self._forwarded)
        try:
            return original(model, *args, **kwargs)
        finally:
            if hook is not None:
                hook.remove()

    def _forwarded(self, model: Any, inputs: Any, outputs: Any) -> None:
        call_guarded(self._kit, "forward", self._add, outputs)

    def _add(self, outputs: Any) -> None:
        if parts := loss_parts(outputs):
            self._looks = _LOOKS
            self._tracker.parts(parts)

    def _sourced(self, loss: Any, items: Any) -> None:
        """Reports the loss of a batch, undivided by accumulation."""
        loss = loss[0] if isinstance(loss, tuple) else loss
        self._tracker.sourced(loss.detach() * _compat.batches_of_loss(self._trainer, items))
