"""Describes a run: what a plain loop knows at its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.engine.run_info import Start
from trackkit.integrations.batches import describe_data, loader_sizes
from trackkit.integrations.loop import _compat
from trackkit.record.description import Description

if TYPE_CHECKING:
    import torch


def describe(
    model: torch.nn.Module | None, optimizers: Sequence[Any], config: Any, loader: Any = None, ranks: int = 1
) -> Start:
    """Returns what a loop knows at its start.

    Args:
        model, optimizers: of the training; None and none if unknown.
        config: the user's hyperparameters: a mapping, a dataclass, a namespace or an OmegaConf node; None for none.
        loader: of the training data; None if unknown.
        ranks: of the training.
    """
    from trackkit.record.run_config import flatten, model_config, optimizer_config
    from trackkit.settings.config import plain_node

    known = Description()
    if model is not None:
        inner = _compat.wrapped(model)
        known.add("the model", lambda: model_config(model, type(inner)))
        known.config["runtime/strategy"] = type(model).__name__ if inner is not model else "plain"
    known.add("the optimizers", lambda: optimizer_config(optimizers))
    if known.ask("the data set", lambda: getattr(loader, "dataset", None), None) is not None:
        size = known.ask("the data", lambda: loader_sizes(loader).size, None)
        # How many batches make a step shows only later.
        describe_data(known, loader, size, None, ranks)
    hparams = flatten("", plain_node(config, "config")) if config is not None else {}
    return Start(
        framework="loop",
        package="torch",
        output=Path.cwd(),
        phase="fit",
        config=known.config,
        hparams={name.removeprefix("/"): value for name, value in hparams.items()},
        device=known.ask("the device", lambda: _device(model), ""),
        faults=known.faults,
    )


def as_module(model: Any) -> torch.nn.Module:
    """Returns several models, in a list or a dict, as one module; a single one as it is."""
    import torch

    if isinstance(model, Mapping):
        return torch.nn.ModuleDict(model)
    return torch.nn.ModuleList(model) if isinstance(model, (list, tuple)) else model


def _device(model: torch.nn.Module | None) -> str:
    first = next(model.parameters(), None) if model is not None else None
    return "" if first is None else str(first.device)
