"""Private names of torch. They are used here only; `PRIVATE` lists them."""

# ruff: noqa: SLF001 -- this file is where private names are reached

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trackkit.integrations import private
from trackkit.integrations.private import Private

PRIVATE = [
    Private(
        "torch.autograd.variable:Variable._execution_engine",
        "calls back at the end of a backward pass, as FSDP2 does",
        "torch 2.13",
        "`batch/grad_norm` is recorded only where `track.step(grad_norm=...)` gives it",
    ),
    Private(
        "torch.optim.adamw:AdamW._step_supports_amp_scaling",
        "tells optimizers that skip a step on the device, such as fused ones",
        "torch 2.13",
        "steps that those optimizers skip are not in `batch/skipped_steps`",
    ),
    Private(
        "torch._dynamo.eval_frame:OptimizedModule._orig_mod",
        "the module in `torch.compile`'s",
        "torch 2.13",
        "`model/class` is `OptimizedModule` for compiled models",
    ),
]


def missing() -> list[str]:
    """Returns the names of `PRIVATE` that the installed torch lacks."""
    return private.missing(PRIVATE)


def at_end_of_backward(call: Callable[[], None]) -> None:
    """Calls back when the backward pass that runs in this thread has computed its gradients."""
    from torch.autograd import Variable

    Variable._execution_engine.queue_callback(call)


def skips_itself(optimizer: Any) -> bool:
    """Returns whether the optimizer decides during its step, on the device, if the step is skipped."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def wrapped(model: Any) -> Any:
    """Returns the user's module in the wrappers of DDP, FSDP, Fabric and `torch.compile`."""
    if type(model).__module__.partition(".")[0] in ("torch", "lightning"):
        for name in ("module", "_orig_mod"):
            inner = getattr(model, name, None)
            if hasattr(inner, "named_parameters"):
                return wrapped(inner)
    return model
