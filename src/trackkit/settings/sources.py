"""Reads the settings from arguments, TRACKKIT_* variables, `trackkit.yaml` and W&B's own variables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from trackkit.errors import ConfigError, did_you_mean
from trackkit.settings.config import CHOICES, SWITCHES, TrackKitConfig, check_layer, check_values, plain_node

DEFAULT_FILE = "trackkit.yaml"

_WANDB_VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "name": "WANDB_NAME",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
    "tags": "WANDB_TAGS",
    "notes": "WANDB_NOTES",
    "mode": "WANDB_MODE",
    "dir": "WANDB_DIR",
}

# Limits of a YAML text: its levels, and its values with aliases replaced by what they stand for.
_DEEPEST, _MOST_VALUES = 32, 10_000

# WANDB_RESUME to `resume`; None is the default.
_RESUME = {"never": "never", "allow": None, "auto": None, "must": "must"}

# TRACKKIT_* variables that are no settings: the settings file, the list of runs, and `trackkit run --everywhere`.
_OTHER_VARIABLES = ("TRACKKIT_CONFIG", "TRACKKIT_INDEX", "TRACKKIT_EVERYWHERE")


def load_config(config: Any = None, given: Mapping[str, Any] | None = None) -> TrackKitConfig:
    """Returns the settings.

    Precedence, highest first: arguments, TRACKKIT_* variables, file, W&B's variables, defaults. None means "not given"
    in each of them. `callbacks` is merged callback by callback.

    Args:
        config: path of a YAML file, a mapping or an OmegaConf node; default: the file in TRACKKIT_CONFIG, else
            `trackkit.yaml` in the working directory, if it exists.
        given: settings given as arguments.

    Raises:
        ConfigError: an unknown setting, a wrong type or choice, a file that is missing or is not a mapping.
    """
    file, source = _read_file(config)
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("W&B's variables", _from_wandb_variables()),
        (source, file),
        ("TRACKKIT_* variables", _from_variables()),
        ("arguments", given or {}),
    ]
    merged: dict[str, Any] = {}
    callbacks: dict[str, Any] = {}
    for origin, layer in layers:
        checked = check_layer(layer, origin)
        callbacks.update(checked.get("callbacks", {}))
        merged.update(checked, callbacks=callbacks)
    settings = TrackKitConfig(**merged)
    check_values(settings)
    return settings


def _read_file(config: Any) -> tuple[dict[str, Any], str]:
    if config is None:
        named = os.environ.get("TRACKKIT_CONFIG")
        config = named or (DEFAULT_FILE if Path(DEFAULT_FILE).is_file() else None)
    if config is None:
        return {}, "defaults"
    if not isinstance(config, (str, os.PathLike)):
        return _to_mapping(config, f"config={type(config).__name__}"), "config"
    path = Path(config)
    if not path.is_file():
        raise ConfigError(f"no settings file '{path}'. Create it, or correct 'config' or TRACKKIT_CONFIG.")
    try:
        node = _yaml(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"cannot read the settings file '{path}' as YAML: {error}") from error
    return _to_mapping({} if node is None else node, f"'{path}'"), f"'{path}'"


def _yaml(text: str) -> Any:
    """Parses YAML as OmegaConf does (`1e12` is a number), except a single word, which stays a word.

    Raises:
        ValueError: the text is not YAML, is nested too deeply or has too many values.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        _check_size(yaml.parse(text, yaml.SafeLoader))
        raw = yaml.safe_load(text)
        return OmegaConf.create(text) if isinstance(raw, (dict, list)) else raw
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(str(error)) from error


def _check_size(events: Iterable[Any]) -> None:
    """Checks the size of a YAML text before it is parsed: a few bytes of aliases may stand for millions of values.

    Raises:
        ValueError: it is nested too deeply or has too many values.
    """
    import yaml

    sizes: dict[str | None, int] = {}
    # Of the mappings and lists that are open: their values so far, and their anchors.
    totals, anchors = [0], []
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            totals.append(1)
            anchors.append(event.anchor)
            size = 0
        elif isinstance(event, yaml.CollectionEndEvent):
            sizes[anchors.pop()] = size = totals.pop()
        elif isinstance(event, yaml.AliasEvent):
            # An alias within what it stands for has no end.
            size = sizes.get(event.anchor, _MOST_VALUES)
        else:
            size = int(isinstance(event, yaml.ScalarEvent))
            sizes.update({event.anchor: size} if size else {})
        totals[-1] += size
        if len(totals) > _DEEPEST or totals[-1] > _MOST_VALUES:
            raise ValueError(f"it has more than {_DEEPEST} levels or {_MOST_VALUES} values")


def _to_mapping(node: Any, source: str) -> dict[str, Any]:
    plain = plain_node(node, source)
    if not isinstance(plain, Mapping):
        kind = "a list" if isinstance(plain, list) else f"of type {type(plain).__name__}"
        raise ConfigError(f"{source} is {kind}, not a mapping of settings. Write, for example, 'project: NAME'.")
    return {key: value for key, value in plain.items() if key != "_target_"}


def _from_variables() -> dict[str, Any]:
    names = {f"TRACKKIT_{item.name.upper()}": item.name for item in fields(TrackKitConfig)}
    found: dict[str, Any] = {}
    for variable, value in os.environ.items():
        if not variable.startswith("TRACKKIT_") or variable in _OTHER_VARIABLES:
            continue
        if variable not in names:
            raise ConfigError(f"unknown variable '{variable}'{did_you_mean(variable, [*names, *_OTHER_VARIABLES])}")
        if value:
            found[names[variable]] = _parse(variable, names[variable], value)
    return found


def _parse(variable: str, name: str, text: str) -> Any:
    """Returns a variable's text as its setting's type: tags from `a,b` or a YAML list, mappings from YAML."""
    if name == "tags" and not text.lstrip().startswith(("[", "{")):
        return [tag.strip() for tag in text.split(",") if tag.strip()]
    if name in ("tags", "synonyms", "callbacks") or name in SWITCHES:
        try:
            return _yaml(text)
        except ValueError as error:
            example = "[a, b]" if name == "tags" else "true" if name in SWITCHES else "{name: value}"
            raise ConfigError(
                f"{variable}={text[:200]!r} cannot be read as YAML. Write, for example, {example}"
            ) from error
    return text


def _from_wandb_variables() -> dict[str, Any]:
    found = {
        name: _parse(variable, name, os.environ[variable])
        for name, variable in _WANDB_VARIABLES.items()
        if os.environ.get(variable)
    }
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        found["mode"] = "disabled"
    elif found.get("mode") == "dryrun":
        found["mode"] = "offline"
    elif found.get("mode") not in CHOICES["mode"]:
        found.pop("mode", None)
    if (word := os.environ.get("WANDB_RESUME")) is not None:
        if word not in _RESUME:
            raise ConfigError(
                f"WANDB_RESUME={word!r} is not one of {', '.join(_RESUME)}. Set one of them, or unset it."
            )
        found["resume"] = _RESUME[word]
    return found
