"""The loss of a batch."""

from __future__ import annotations

from typing import Any


def loss_of(outputs: Any, automatic: bool, accumulated: int) -> Any:
    """What a training step has returned as its loss, ours to keep; None where there is none.

    Args:
        outputs: of the training step, as a hook gets them.
        automatic: whether the optimization is.
        accumulated: batches per step, by which Lightning has divided the loss of automatic optimization.
    """
    loss = outputs.get("loss") if isinstance(outputs, dict) else None
    if loss is None or not hasattr(loss, "detach"):
        return None
    # Lightning clones the loss of automatic optimization; a manual one may be a buffer that is used again.
    if not automatic:
        loss = loss.detach().clone()
    if loss.ndim:
        if loss.numel() != 1:
            return None
        loss = loss.detach().reshape(())
    return loss * accumulated if automatic and accumulated != 1 else loss
