"""The names of a trainer's optimizers, and its gradient scaler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trackkit.integrations.lightning import _compat

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch import Tensor
    from torch.optim import Optimizer


def name_of(optimizer: Any, optimizers: Sequence[Any]) -> str:
    """Returns the name of one of several optimizers: its class, numbered where classes repeat; "" for the only one."""
    if len(optimizers) < 2:
        return ""
    kinds = [type(each).__name__ for each in optimizers]
    for index, each in enumerate(optimizers):
        if each is optimizer or getattr(each, "optimizer", None) is optimizer:
            return f"{kinds[index]}_{index}" if kinds.count(kinds[index]) > 1 else kinds[index]
    return type(optimizer).__name__


class Scaler:
    """Follows the gradient scaler of 16-bit precision, if the fit has one, without reading the device."""

    def __init__(self, trainer: Trainer) -> None:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self._flags: list[Tensor] = []

    def __bool__(self) -> bool:
        return self._scaler is not None

    def before_step(self, optimizer: Optimizer) -> Tensor | None:
        """Keeps the step's found-inf flags.

        Returns:
            The scale of the gradients (a device scalar) if the optimizer unscales them itself, as fused ones do; None
            if they are unscaled.
        """
        if self._scaler is None:
            return None
        self._flags.extend(_compat.found_inf(self._scaler, optimizer).values())
        return _compat.scale_of(self._scaler) if _compat.unscales_itself(optimizer) else None

    def scale_before_unscaling(self, optimizer: Optimizer) -> Tensor | None:
        """Returns the scale of the gradients (a device scalar); None if they have been unscaled."""
        if self._scaler is None or _compat.found_inf(self._scaler, optimizer):
            return None
        return _compat.scale_of(self._scaler)

    def pop_skipped(self) -> Tensor | None:
        """Returns whether the steps since the last call were skipped (a device scalar); None without a step."""
        flags, self._flags = self._flags, []
        if len(flags) < 2:
            return flags[0] if flags else None
        import torch

        return torch.stack([flag.reshape(()) for flag in flags]).max()
