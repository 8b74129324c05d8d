"""The gradient scaler of a trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackkit.integrations.lightning import _compat

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch import Tensor
    from torch.optim import Optimizer


class Scaler:
    """Follows the gradient scaler of 16-bit precision, if the fit has one, without reading the device.

    Attributes:
        readable: whether scales are known, so that norms are.
        flags: found-inf flags (device scalars) of the steps since `pop_skipped`.
    """

    def __init__(self, trainer: Trainer) -> None:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self.readable = scaler is None or _compat.is_readable(scaler)
        self._scaler = scaler if self.readable else None
        self.flags: list[Tensor] = []

    def before_step(self, optimizer: Optimizer) -> Tensor | None:
        """Keeps the step's found-inf flags.

        Returns:
            The scale of the gradients (a device scalar) if the optimizer unscales them itself, as fused ones do; None
            if they are unscaled.
        """
        if self._scaler is None:
            return None
        self.flags.extend(_compat.found_inf(self._scaler, optimizer).values())
        return _compat.scale_of(self._scaler) if _compat.unscales_itself(optimizer) else None

    def scale_before_unscaling(self, optimizer: Optimizer) -> Tensor | None:
        """Returns the scale of the gradients (a device scalar); None if they have been unscaled."""
        if self._scaler is None or _compat.found_inf(self._scaler, optimizer):
            return None
        return _compat.scale_of(self._scaler)

    def pop_skipped(self) -> Tensor:
        """Returns whether the steps of `flags`, at least one, were skipped (a device scalar), and clears them."""
        import torch

        flags, self.flags = self.flags, []
        return flags[0] if len(flags) == 1 else torch.stack([flag.reshape(()) for flag in flags]).max()
