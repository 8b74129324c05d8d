"""Private names of torch. They are used here only; `PRIVATE` lists them."""

# ruff: noqa: SLF001 -- this file is where private names are reached

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from trackkit.integrations import private
from trackkit.integrations.private import Private

Call = TypeVar("Call", bound=Callable[..., Any])

PRIVATE = [
    Private(
        "torch.autograd.variable:Variable._execution_engine",
        "calls back at the end of a backward pass, as FSDP2 does",
        "torch 2.13",
        "`batch/grad_norm` is recorded only where `track.step(grad_norm=...)` gives it",
    ),
    Private(
        "torch._C:_current_graph_task_id",
        "tells one backward pass from another, also after one that failed",
        "torch 2.13",
        "as without `_execution_engine`",
    ),
    Private(
        "torch.optim.adamw:AdamW._step_supports_amp_scaling",
        "tells optimizers that skip a step on the device, such as fused ones",
        "torch 2.13",
        "steps that those optimizers skip are not in `batch/skipped_steps`",
    ),
    Private(
        "torch._dynamo.compiled_autograd:in_compiled_autograd_region",
        "whether the backward pass is compiled: it can't be followed then",
        "torch 2.13",
        "no `batch/grad_norm` for a training step that is compiled as a whole",
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


def backward_number() -> int:
    """Returns the number of the backward pass that runs in this thread."""
    import torch

    return torch._C._current_graph_task_id()


def compiles_backward() -> bool:
    """Returns whether compiled autograd is tracing the hook that asks. That hook can't call back.

    `torch.compiler.is_compiling` is also true in a hook of an ordinary backward pass within a compiled function.
    """
    compiled = sys.modules.get("torch._dynamo.compiled_autograd")
    if compiled is None:
        return False
    if not hasattr(compiled, "in_compiled_autograd_region"):
        import torch

        return torch.compiler.is_compiling()
    return bool(compiled.in_compiled_autograd_region)


def eager(call: Call) -> Call:
    """Returns a function that `torch.compile` leaves alone, if the program compiles anything."""
    if "torch._dynamo" not in sys.modules:
        return call
    import torch

    disabled: Call = torch.compiler.disable(call)  # type: ignore[no-untyped-call]
    return disabled


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
