"""Describes a run: what a plain loop knows at its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.engine.run_info import Start
from trackkit.errors import ConfigError
from trackkit.integrations.batches import describe_data, loader_sizes
from trackkit.integrations.loop import _compat
from trackkit.record.description import Description
from trackkit.schema.keys import sanitize

if TYPE_CHECKING:
    import torch


def describe(
    model: torch.nn.Module | None,
    optimizers: Sequence[Any],
    hparams: Mapping[str, Any],
    loader: Any = None,
    ranks: int = 1,
) -> Start:
    """Returns what a loop knows at its start.

    Args:
        model, optimizers: of the training; None and none if unknown.
        hparams: the user's hyperparameters, flat.
        loader: of the training data; None if unknown.
        ranks: of the training.
    """
    from trackkit.record.run_config import model_config, optimizer_config

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
    return Start(
        framework="loop",
        package="torch",
        output=Path.cwd(),
        phase="fit",
        config=known.config,
        hparams=hparams,
        device=known.ask("the device", lambda: _device(model), ""),
        faults=known.faults,
    )


def hyperparameters(config: Any) -> dict[str, Any]:
    """Returns the user's hyperparameters, flat.

    Args:
        config: a mapping, a dataclass, a namespace or another object with attributes, or an OmegaConf node; None for
            none.

    Raises:
        ConfigError: something else, such as the path of a file.
    """
    from trackkit.record.run_config import flatten
    from trackkit.settings.config import plain_node

    if config is None:
        return {}
    config = plain_node(config, "config")
    if not isinstance(config, Mapping) and not hasattr(config, "__dict__"):
        raise ConfigError(
            f"config={config!r} is not a mapping, a dataclass, a namespace or an OmegaConf node of hyperparameters. "
            "Load a file yourself; one with settings of TrackKit is named by TRACKKIT_CONFIG."
        )
    if not isinstance(config, (Mapping, type)) and not is_dataclass(config):
        inherited = {name: value for kind in reversed(type(config).__mro__) for name, value in vars(kind).items()}
        # Defaults that are attributes of its classes; functions and properties have `__get__`.
        defaults = {name: value for name, value in inherited.items() if not hasattr(value, "__get__")}
        config = {name: value for name, value in {**defaults, **vars(config)}.items() if not name.startswith("_")}
    return {name.removeprefix("/"): value for name, value in flatten("", config).items()}


def as_module(model: Any) -> torch.nn.Module | None:
    """Returns several models, in a list or a dict, as one module; a single one and None as they are.

    Raises:
        ConfigError: one is not a module, or has a name that no module may have.
    """
    import torch

    several = isinstance(model, (Mapping, list, tuple))
    for each in model.values() if isinstance(model, Mapping) else model if several else [model]:
        if each is not None and not isinstance(each, torch.nn.Module):
            raise ConfigError(
                f"trackkit.loop got a model of type {type(each).__name__}. Give the torch.nn.Module that is trained, "
                "or several in a list or in a dict by name."
            )
    if isinstance(model, Mapping):
        try:
            return torch.nn.ModuleDict({sanitize(str(name)): each for name, each in model.items()})
        except KeyError as error:
            raise ConfigError(f"trackkit.loop can't use the name of a model: {error.args[0]}. Rename it.") from None
    return torch.nn.ModuleList(model) if several else model


def _device(model: torch.nn.Module | None) -> str:
    first = next(model.parameters(), None) if model is not None else None
    return "" if first is None else str(first.device)
