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


class LossParts:
    """Follows the batches of one training: what the model gives beside its loss, and the loss by data source.

    Args:
        kit: the TrackKit that records the trainer.
        tracker: of the run.
        trainer: the trainer.
    """

    def __init__(self, kit: Kit, tracker: Tracker, trainer: Any) -> None:
        self._kit, self._tracker, self._trainer = kit, tracker, trainer
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
            self._tracker.source = source_of(inputs)
            # On the model for this call only: a copy or a file of it has no hook.
            hook = call_guarded(self._kit, "compute_loss", model.register_forward_hook, self._forwarded)
            try:
                loss = original(model, inputs, *args, **kwargs)
            finally:
                if hook is not None:
                    hook.remove()
            if self._tracker.source:
                call_guarded(self._kit, "compute_loss", self._sourced, loss, kwargs.get("num_items_in_batch"))
            return loss

        return compute_loss

    def _forwarded(self, model: Any, inputs: Any, outputs: Any) -> None:
        call_guarded(self._kit, "forward", lambda: self._tracker.parts(loss_parts(outputs)))

    def _sourced(self, loss: Any, items: Any) -> None:
        """Reports the loss of a batch, undivided by accumulation."""
        loss = loss[0] if isinstance(loss, tuple) else loss
        self._tracker.sourced(loss.detach() * _compat.batches_of_loss(self._trainer, items))
