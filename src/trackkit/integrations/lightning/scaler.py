"""The gradient scaler of 16-bit precision, as Lightning's plugin holds it."""

from __future__ import annotations

from typing import Any


class Scaler:
    """Follows the scaler of a fit, if it has one, without a device read.

    Attributes:
        flags: found-inf flags, device scalars, of the steps since `take_skipped`.
    """

    def __init__(self, trainer: Any) -> None:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self.flags: list[Any] = []

    def __bool__(self) -> bool:
        return self._scaler is not None

    def before_step(self, optimizer: Any) -> Any:
        """Keeps the found-inf flags; gives the scale where a fused optimizer is about to unscale by itself."""
        scaler = self._scaler
        if scaler is None:
            return None
        self.flags.extend(scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"].values())
        return scaler._scale if getattr(optimizer, "_step_supports_amp_scaling", False) else None

    def carried(self, optimizer: Any) -> Any:
        """The scale that gradients carry before anything has unscaled them."""
        scaler = self._scaler
        if scaler is None or scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]:
            return None
        return scaler._scale

    def take_skipped(self) -> Any:
        """Whether the steps of `flags`, one or more, were skipped: a device scalar."""
        import torch

        flags, self.flags = self.flags, []

        return flags[0] if len(flags) == 1 else torch.stack([flag.reshape(()) for flag in flags]).max()
