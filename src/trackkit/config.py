"""The settings: one typed dataclass, from arguments, TRACKKIT_* variables, `trackkit.yaml`, W&B's variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

DEFAULT_FILE = "trackkit.yaml"

CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("auto", "online", "offline", "disabled"),
    "names": ("canonical", "keep", "strict"),
    "epoch_axis": ("step", "epoch"),
}

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


@dataclass
class TrackKitConfig:
    """Every setting, with its default.

    Attributes:
        project: W&B project; default: the name of the git repository, else of the folder.
        entity: W&B entity; default: the account's own.
        name: display name, a template of {experiment} {version} {phase} {owner} {time} {git} {slurm_job_id}
            {hostname} {run_id} {hparams.<name>}; default `{experiment}-{slurm_job_id or time}-{git}`.
        group, job_type, notes: as in W&B.
        tags: as in W&B; `ci` or `local` is added.
        mode: `auto` (online where a key is there and the server answers, else offline), `online`, `offline`,
            `disabled` (nothing is recorded at all).
        dir: folder for run folders; default: WANDB_DIR, else the trainer's own output folder.
        names: `canonical`, `keep` or `strict`: how logged names become keys.
        synonyms: canonical name to the name wanted instead.
        epoch_axis: x-axis of `epoch/*`: `step` or `epoch`.
        callbacks: callback name to true, false or a mapping of its options.
    """

    project: str | None = None
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    job_type: str = "train"
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    mode: str = "auto"
    dir: str | None = None
    names: str = "canonical"
    synonyms: dict[str, str] = field(default_factory=dict)
    epoch_axis: str = "step"
    callbacks: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain Python."""
        return asdict(self)


def load_config(config: Any = None, given: Mapping[str, Any] | None = None) -> TrackKitConfig:
    """Resolves the settings. Nearer wins: arguments, TRACKKIT_* variables, file, W&B's variables, defaults.

    Args:
        config: path of a YAML file, a mapping, or an OmegaConf node; default: TRACKKIT_CONFIG, else `trackkit.yaml`
            in the working directory where there is one.
        given: settings given as arguments; those that are None are taken as not given.

    Raises:
        ConfigError: an unknown setting, a wrong type or choice, a file that is missing or no mapping.
    """
    arguments = {key: value for key, value in (given or {}).items() if value is not None}
    file, source = _read_file(config)
    layers = [
        ("W&B's variables", _from_wandb_variables()),
        (source, file),
        ("TRACKKIT_* variables", _from_variables()),
        ("arguments", arguments),
    ]
    merged: dict[str, Any] = {}
    for origin, layer in layers:
        _check_known(layer, origin)
        _check_types(layer, origin)
        callbacks = {**merged.get("callbacks", {}), **(layer.get("callbacks") or {})}
        merged.update(layer, callbacks=callbacks)
    settings = TrackKitConfig(**_check_types(merged, "settings"))
    _check_values(settings)
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
        raise ConfigError(f"the settings file must exist; there is no '{path}'; make it, or leave out 'config'")
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        node: Any = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file '{path}' must be YAML, and can't be read: {error}") from error
    return _to_mapping(node, f"'{path}'"), f"'{path}'"


def _to_mapping(node: Any, source: str) -> dict[str, Any]:
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(node, Mapping) and not isinstance(node, DictConfig):
        return dict(node)
    if not isinstance(node, DictConfig):
        kind = "a list" if OmegaConf.is_list(node) else f"a {type(node).__name__}"
        raise ConfigError(f"settings must be a mapping of names to values; {source} is {kind}; write 'project: NAME'")
    try:
        plain = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"settings in {source} can't be resolved: {error}") from error
    return {str(key): value for key, value in plain.items() if key != "_target_"} if isinstance(plain, dict) else {}


def _from_variables() -> dict[str, Any]:
    names = {f"TRACKKIT_{item.name.upper()}": item.name for item in fields(TrackKitConfig)}
    found: dict[str, Any] = {}
    for variable, value in os.environ.items():
        if not variable.startswith("TRACKKIT_") or variable == "TRACKKIT_CONFIG":
            continue
        if variable not in names:
            raise ConfigError(f"unknown variable '{variable}'{did_you_mean(variable, names)}")
        found[names[variable]] = _parse(names[variable], value)
    return found


def _parse(name: str, text: str) -> Any:
    """A variable's text as its setting's type: tags as `a,b` or a YAML list, mappings as YAML."""
    if name == "tags":
        return [tag.strip() for tag in text.strip("[]").split(",") if tag.strip()]
    if name in ("synonyms", "callbacks"):
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"TRACKKIT_{name.upper()} must be a YAML mapping; got {text!r}") from error
    return text


def _from_wandb_variables() -> dict[str, Any]:
    found = {
        name: _parse(name, os.environ[variable])
        for name, variable in _WANDB_VARIABLES.items()
        if os.environ.get(variable)
    }
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        found["mode"] = "disabled"
    elif found.get("mode") == "dryrun":
        found["mode"] = "offline"
    elif found.get("mode") not in CHOICES["mode"]:
        found.pop("mode", None)
    return found


def _check_known(layer: Mapping[str, Any], origin: str) -> None:
    known = [item.name for item in fields(TrackKitConfig)]
    for key in layer:
        if key not in known:
            raise ConfigError(f"unknown setting '{key}' in {origin}{did_you_mean(str(key), known)}")


def _check_types(layer: Mapping[str, Any], origin: str) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    schema: DictConfig = OmegaConf.structured(TrackKitConfig)
    for key, value in layer.items():
        for text in (value,) if isinstance(value, bool) else ():
            raise ConfigError(f"setting '{key}' in {origin} is of the wrong type: got {text!r}")
        try:
            schema = OmegaConf.merge(schema, {key: value})  # type: ignore[assignment]
        except (OmegaConfBaseException, TypeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise ConfigError(f"setting '{key}' in {origin} is of the wrong type: got {value!r} ({first})") from error
    plain = OmegaConf.to_container(schema)
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def _check_values(settings: TrackKitConfig) -> None:
    for name, choices in CHOICES.items():
        value = getattr(settings, name)
        if value not in choices:
            raise ConfigError(
                f"setting '{name}' must be one of {', '.join(choices)}; got '{value}'{did_you_mean(value, choices)}"
            )
    project = settings.project
    if project is not None and (not project.strip() or len(project) > 128 or set(project) & set("/\\#?%:")):
        raise ConfigError(
            f"a W&B project name has 1 to 128 characters and none of / \\ # ? % : ; got {json.dumps(project)}; "
            "replace them, e.g. by '-'"
        )
    from trackkit.callbacks import check_options

    check_options(settings.callbacks)
