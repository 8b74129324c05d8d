"""Computes the L2 norm of each gradient, with one fused kernel per device and type, without reading it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


def with_gradients(optimizer: Any) -> list[tuple[int, torch.nn.Parameter]]:
    """Returns the parameters of an optimizer that have a gradient, each with its number among all of them."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    return [(number, each) for number, each in enumerate(parameters) if each.grad is not None]


def are_sharded(grads: Sequence[Any]) -> bool:
    """Returns whether gradients are spread over the ranks (DTensor)."""
    import torch

    return any(type(grad) is not torch.Tensor and hasattr(grad, "full_tensor") for grad in grads)


def own_parts(grads: Sequence[Any]) -> list[Any]:
    """Returns this rank's part of each gradient; whole gradients as they are."""
    if not are_sharded(grads):
        return list(grads)
    return [grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads]


def holders(grad: Any, world_size: int) -> int:
    """Returns how many ranks hold the same part of a gradient: with the parts of all ranks, it is counted so often.

    Raises:
        ValueError: the ranks' parts are yet to be added up.
    """
    if not hasattr(grad, "device_mesh"):
        return world_size
    count: int = world_size // grad.device_mesh.size()
    for dimension, placement in enumerate(grad.placements):
        if placement.is_partial():
            raise ValueError("gradients of a placement that is not reduced yet")
        if placement.is_replicate():
            count *= grad.device_mesh.size(dimension)
    return count


def norms_of(grads: Sequence[Any]) -> list[torch.Tensor]:
    """Returns the L2 norm of each gradient, in order: scalars of float32 or wider, on the first one's device."""
    import torch

    grads = list(grads)
    kinds = {(grad.device, grad.dtype, grad.layout) for grad in grads}
    if len(kinds) == 1 and grads[0].layout is torch.strided:
        return _fused(grads)
    out: list[Any] = [None] * len(grads)
    alike: dict[tuple[Any, Any], list[int]] = defaultdict(list)
    for index, grad in enumerate(grads):
        if grad.layout is not torch.strided:
            grad = grad.coalesce().values()
            grads[index] = grad
        alike[grad.device, grad.dtype].append(index)
    home = grads[0].device
    for indices in alike.values():
        for index, norm in zip(indices, _fused([grads[index] for index in indices]), strict=True):
            out[index] = norm.to(home)
    return out


def _fused(grads: list[Any]) -> list[torch.Tensor]:
    """Returns the norms of gradients of one device and type, computed by one fused kernel."""
    import torch

    dtype = grads[0].dtype
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else None
    norms = torch._foreach_norm(grads, 2.0, dtype=wide)  # noqa: SLF001 -- torch's clip_grad_norm_ uses it
    return [norm.float() for norm in norms] if dtype.is_complex else list(norms)
