"""The settings: one typed dataclass, from arguments, TRACKKIT_* variables, `trackkit.yaml`, W&B's variables."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from trackkit.errors import ConfigError, did_you_mean

DEFAULT_FILE = "trackkit.yaml"

CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("auto", "online", "offline", "disabled"),
    "names": ("canonical", "keep", "strict"),
    "epoch_axis": ("step", "epoch"),
}

# What people look for here, and where it is.
_ELSEWHERE = dict.fromkeys(
    ("log_every", "log_every_n_steps", "logging_steps"),
    "; the trainer says how often rows are made: 'log_every_n_steps' in Lightning, 'logging_steps' in Hugging Face",
)

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

# Variables that are no settings of a run: the settings file, and where the user's list of runs lies.
_OTHER_VARIABLES = ("TRACKKIT_CONFIG", "TRACKKIT_INDEX")


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
        resume: `auto` (a checkpoint's run goes on, where it carries one), `never`, or a run id.
        finish_timeout: seconds that the end of a run may wait for W&B; what is not sent by then is on disk.
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
    resume: str = "auto"
    finish_timeout: float = 30.0
    callbacks: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain Python."""
        return asdict(self)


def load_config(config: Any = None, given: Mapping[str, Any] | None = None) -> TrackKitConfig:
    """Resolves the settings. Nearer wins: arguments, TRACKKIT_* variables, file, W&B's variables, defaults.

    None, in any of them, means "not given"; `callbacks` is merged callback by callback.

    Args:
        config: path of a YAML file, a mapping, or an OmegaConf node; default: TRACKKIT_CONFIG, else `trackkit.yaml`
            in the working directory where there is one.
        given: settings given as arguments.

    Raises:
        ConfigError: an unknown setting, a wrong type or choice, a file that is missing or no mapping.
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
        checked = _check_layer(layer, origin)
        callbacks.update(checked.get("callbacks", {}))
        merged.update(checked, callbacks=callbacks)
    settings = TrackKitConfig(**merged)
    _check_values(settings)
    return settings


def unknown_setting(key: object, origin: str, known: Iterable[str]) -> ConfigError:
    """The error for a setting that there is not."""
    hint = _ELSEWHERE.get(str(key)) or did_you_mean(str(key), known)
    return ConfigError(f"unknown setting '{key}' in {origin}{hint}")


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
        raise ConfigError(f"the settings file must exist; there is no file '{path}'; make it, or leave out 'config'")
    try:
        node = _yaml(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"the settings file '{path}' must be YAML, and can't be read: {error}") from error
    return _to_mapping({} if node is None else node, f"'{path}'"), f"'{path}'"


def _yaml(text: str) -> Any:
    """YAML as OmegaConf reads it (`1e12` is a number), but for a lone word, of which it would make a mapping.

    Raises:
        ValueError: it is no YAML.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        raw = yaml.safe_load(text)
        return OmegaConf.create(text) if isinstance(raw, (dict, list)) else raw
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(str(error)) from error


def _to_mapping(node: Any, source: str) -> dict[str, Any]:
    plain = _plain(node, source)
    if not isinstance(plain, Mapping):
        kind = "a list" if isinstance(plain, list) else f"of type {type(plain).__name__}"
        raise ConfigError(f"settings must be a mapping of names to values; {source} is {kind}; write 'project: NAME'")
    return {key: value for key, value in plain.items() if key != "_target_"}


def _plain(value: Any, source: str) -> Any:
    """An OmegaConf node (Hydra hands them over as arguments) as plain Python, its interpolations resolved."""
    if "omegaconf" not in sys.modules:
        return value
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not OmegaConf.is_config(value):
        return value
    try:
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"settings in {source} can't be resolved: {error}") from error


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
    """A variable's text as its setting's type: tags as `a,b` or a YAML list, mappings as YAML."""
    if name == "tags" and not text.lstrip().startswith("["):
        return [tag.strip() for tag in text.split(",") if tag.strip()]
    if name in ("tags", "synonyms", "callbacks"):
        try:
            return _yaml(text)
        except ValueError as error:
            kind = "list" if name == "tags" else "mapping"
            raise ConfigError(f"variable '{variable}' must be a YAML {kind}; got {text!r}") from error
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
    return found


def _check_layer(layer: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The settings that `layer` gives, each of its own type."""
    known = [item.name for item in fields(TrackKitConfig)]
    checked: dict[str, Any] = {}
    for key, value in layer.items():
        if key not in known:
            raise unknown_setting(key, origin, known)
        value = _plain(value, origin)
        if value is not None:
            checked[key] = _typed(key, value, origin)
    return checked


def _typed(key: str, value: Any, origin: str) -> Any:
    if key == "tags":
        rule = "a list of texts"
        if isinstance(value, (list, tuple)) and all(_is_text(item) for item in value):
            return [str(item) for item in value]
    elif key == "synonyms":
        rule = "a mapping of names to names"
        if isinstance(value, Mapping) and all(_is_text(item) for pair in value.items() for item in pair):
            return {str(name): str(wanted) for name, wanted in value.items()}
    elif key == "callbacks":
        rule = "a mapping of callbacks to true, false or their options"
        if isinstance(value, Mapping):
            return {str(name): _plain(options, origin) for name, options in value.items()}
    elif key == "finish_timeout":
        rule = "a number of seconds, 0 or more"
        with contextlib.suppress(TypeError, ValueError):
            if not isinstance(value, bool) and float(value) >= 0:
                return float(value)
    else:
        rule = "a text"
        if _is_text(value) or (key == "dir" and isinstance(value, os.PathLike)):
            return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    raise ConfigError(f"setting '{key}' in {origin} must be {rule}; got {value!r}, of type {type(value).__name__}")


def _is_text(value: Any) -> bool:
    """Texts, and the numbers that YAML makes of a text such as `name: 7`; its `yes` and `off` are no texts any more."""
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


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
