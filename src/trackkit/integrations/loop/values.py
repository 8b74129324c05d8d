"""Checks the values that a loop gives, and keeps them from being overwritten."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from trackkit.engine.rows import is_number
from trackkit.errors import ConfigError, TrackKitError


def check_mapping(what: str, values: Any) -> None:
    """Raises TrackKitError unless `values` maps names to values.

    Args:
        what: the call, for the error.
        values: its argument.
    """
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise TrackKitError(f"{what} takes a mapping of names to values; got {values!r}")


def integer(number: Any) -> int | None:
    """Returns an integer, NumPy's too, as an int; None for anything else."""
    try:
        return None if isinstance(number, bool) else operator.index(number)
    except TypeError:
        return None


def whole(where: str, name: str, number: Any) -> int:
    """Returns a number of steps as an int.

    Args:
        where: the function that was given it, for the error.
        name, number: of its argument.

    Raises:
        ConfigError: it is not an integer, or less than 1.
    """
    steps = integer(number)
    if steps is None or steps < 1:
        raise ConfigError(f"{name}={number!r} in {where} is not a whole number of steps, 1 or more")
    return steps


def loss_of(loss: Any) -> Any:
    """Returns a loss as a detached scalar tensor that nothing overwrites."""
    if type(loss) is float:
        return _as_tensor(loss)
    try:
        loss = _kept(loss)
    except AttributeError:
        if not is_number(loss):
            raise TrackKitError(f"track.step needs the loss as one number or a tensor of one; got {loss!r}") from None
        return _as_tensor(float(loss))
    if not loss.ndim:
        return loss
    if loss.numel() != 1:
        raise TrackKitError(
            f"track.step needs a loss of one element; this one has the shape {tuple(loss.shape)}. Give its mean."
        )
    return loss.reshape(())


def norm_of(norm: Any) -> Any:
    """Returns a gradient norm that may be recorded later."""
    if hasattr(norm, "full_tensor"):
        raise TrackKitError("track.step(grad_norm=...) got a DTensor; give `norm.full_tensor()`, on all ranks")
    if not is_number(norm):
        raise TrackKitError(f"track.step needs grad_norm as one number or a tensor of one; got {norm!r}")
    return plain_number(norm)


def plain_number(value: Any) -> Any:
    """Returns a scalar tensor so that it may be recorded later: detached, not overwritten. Other values as they are."""
    if not hasattr(value, "detach") or value.numel() != 1:
        return value
    return _kept(value)


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the numbers among logged values, as they may be recorded later, and the other values."""
    numbers = {name: plain_number(value) for name, value in values.items() if is_number(value)}
    return numbers, {name: value for name, value in values.items() if name not in numbers}


def _as_tensor(number: float) -> Any:
    import torch

    # In less than half the time of `torch.tensor`.
    return torch.full((), number, dtype=torch.float64)


def _kept(tensor: Any) -> Any:
    # Compiled models reuse the memory of their outputs on a GPU; running sums, which have no graph, change in place.
    if not tensor.requires_grad:
        return tensor.clone()
    return tensor.detach().clone() if tensor.is_cuda else tensor.detach()
