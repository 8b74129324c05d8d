"""Follows optimizers: counts their steps, and measures gradient norms before anything clips the gradients.

Hooks on an optimizer see gradients after clipping, and hooks on a parameter see them before DDP has reduced them. So
the parameters' hooks ask autograd for a call at the end of the backward pass. Nothing in the training is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trackkit.engine.norms import norms_of, own_parts, with_gradients
from trackkit.engine.records import Gradients
from trackkit.integrations.loop import _compat
from trackkit.integrations.optimizers import bare
from trackkit.integrations.patches import Patch

if TYPE_CHECKING:
    import torch

# Frames between an optimizer's hook and the scaler that called the optimizer, wrappers included.
_FRAMES = 16


class Scaling:
    """The gradient scaler of a training, if it has one: given by the user, or found when it takes a step.

    Args:
        scaler: a `torch.amp.GradScaler`; None if unknown.
        skipped: called with the torch optimizer whose step the scaler has skipped.
    """

    def __init__(self, scaler: Any, skipped: Callable[[Any], None]) -> None:
        self._skipped = skipped
        self._scaler: Any = None
        self._patch: Patch | None = None
        # Whether the scaler is taking a step; whether the optimizer has taken it.
        self._stepping = self._stepped = False
        self.follow(scaler)

    def follow(self, scaler: Any) -> None:
        """Follows a scaler from now on, unless it is None or disabled, or one is followed already."""
        if self._scaler is None and scaler is not None and scaler.is_enabled():
            self._follow(scaler)

    def scale(self, device: torch.device) -> torch.Tensor | None:
        """Returns the scale of the gradients of the step that is being taken (a device scalar); None if unscaled."""
        if self._scaler is None and (found := _calling_scaler()) is not None:
            self._follow(found)
        elif not self._stepping:
            return None
        import torch

        scaled: torch.Tensor = self._scaler.scale(torch.ones((), device=device))
        return scaled

    def stepped(self) -> None:
        """Notes that an optimizer has taken its step: the scaler has not skipped it."""
        self._stepped = True

    def close(self) -> None:
        """Stops following the scaler."""
        if self._patch is not None:
            self._patch.remove()

    def _follow(self, scaler: Any) -> None:
        self._scaler = scaler

        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
                self._stepping, self._stepped = True, False
                try:
                    result = original(optimizer, *args, **kwargs)
                    if not self._stepped:
                        self._skipped(bare(optimizer))
                finally:
                    self._stepping = False
                return result

            return step

        self._patch = Patch(scaler, "step", wrapper)


class Follower:
    """Follows one optimizer.

    Args:
        optimizer: the torch optimizer, without wrappers.
        name: where the training has several optimizers, else "".
        module: the model; None if unknown.
        scaling: the training's gradient scaler.
        report: called with the gradients of each step while armed.
        skipped: called with a flag (a device scalar) for a step that the optimizer may have skipped by itself.
        failed: called with the hook and the exception if one of the hooks fails.

    Attributes:
        optimizer: as given.
        steps: taken and not collected yet by the owner, who sets it to 0. Skipped steps count.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        name: str,
        module: torch.nn.Module | None,
        scaling: Scaling,
        report: Callable[[Gradients], None],
        skipped: Callable[[torch.Tensor], None],
        failed: Callable[[str, Exception], None],
    ) -> None:
        self.optimizer = optimizer
        self.steps = 0
        self._name, self._module, self._scaling = name, module, scaling
        self._report, self._skipped, self._failed = _compat.eager(report), skipped, failed
        self._measures = _compat.eager(self._measure)
        self._skips_itself = _compat.skips_itself(optimizer)
        self._armed = False
        # The backward pass at whose end a call was asked for.
        self._queued = -1
        self._norms: list[torch.Tensor] | None = None
        self._hooks: list[Any] = []
        # Whether the step that is being taken is yet to be counted: torch calls the hooks for `super().step()` too.
        self._entered = False
        self._step_hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def arm(self, norm: bool = True) -> None:
        """Reports the steps from now on; the next one may make a row.

        Args:
            norm: whether to measure gradient norms.
        """
        self._armed = True
        if not norm or self._hooks:
            return
        for group in self.optimizer.param_groups:
            for each in group["params"]:
                if each.requires_grad and each.is_leaf:
                    self._hooks.append(each.register_post_accumulate_grad_hook(self._accumulated))

    def disarm(self) -> None:
        """Stops reporting: the next step makes no row."""
        self._armed = False
        self._norms = None
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def close(self) -> None:
        """Removes all hooks."""
        self.disarm()
        for hook in self._step_hooks:
            hook.remove()

    def skip(self) -> None:
        """Counts a step that the gradient scaler has skipped."""
        try:
            self._count()
        except Exception as error:  # noqa: BLE001 -- the user's step must not fail
            self._failed("hook on the scaler", error)

    def _accumulated(self, parameter: torch.Tensor) -> None:
        if _compat.compiles_backward():
            return
        try:
            number = _compat.backward_number()
            if number != self._queued:
                self._queued = number
                _compat.at_end_of_backward(self._again)
        except Exception as error:  # noqa: BLE001 -- the user's backward must not fail
            self._failed("hook on gradients", error)

    def _again(self) -> None:
        """Waits for the callbacks queued during the backward pass: DDP's reduces the gradients."""
        try:
            _compat.at_end_of_backward(self._measures)
        except Exception as error:  # noqa: BLE001 -- the user's backward must not fail
            self._failed("hook on gradients", error)

    def _measure(self) -> None:
        import torch

        try:
            with torch.no_grad():
                grads = [parameter.grad for _, parameter in with_gradients(self.optimizer)]
                self._norms = norms_of(own_parts(grads)) if grads else None
        except Exception as error:  # noqa: BLE001 -- the user's backward must not fail
            self._failed("hook on gradients", error)

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._entered = True

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self._entered:
            return
        self._entered = False
        try:
            self._scaling.stepped()
            if self._skips_itself and (flag := getattr(optimizer, "found_inf", None)) is not None:
                self._skipped(flag.clone())
            self._count()
        except Exception as error:  # noqa: BLE001 -- the user's step must not fail
            self._failed("hook on the optimizer's step", error)

    def _count(self) -> None:
        self.steps += 1
        if self._armed:
            norms, self._norms = self._norms, None
            scale = self._scaling.scale(_device(self.optimizer))
            self._report(Gradients(self.optimizer, self._name, norms is None, scale, self._module, norms))


def _device(optimizer: Any) -> Any:
    return next(each.device for group in optimizer.param_groups for each in group["params"])


def _calling_scaler() -> Any:
    """Returns the gradient scaler whose `step` is calling; None if there is none."""
    import torch
    from torch.amp.grad_scaler import GradScaler

    if torch.compiler.is_compiling():
        return None
    frame = sys._getframe(2)  # noqa: SLF001 -- CPython's documented way to the calling frames
    for _ in range(_FRAMES):
        if frame is None:
            return None
        found = frame.f_locals.get("self") if frame.f_code.co_name == "step" else None
        if isinstance(found, GradScaler):
            return found
        frame = frame.f_back  # type: ignore[assignment]
    return None
