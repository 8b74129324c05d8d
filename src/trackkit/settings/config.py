"""The settings: what there is to set, and what each may be. Where they are given: `config_sources`."""

from __future__ import annotations

import contextlib
import json
import os
import string
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from trackkit.errors import ConfigError, did_you_mean

Mode = Literal["auto", "online", "offline", "disabled"]
NamesMode = Literal["canonical", "keep", "strict"]
EpochAxis = Literal["step", "epoch"]

CHOICES: dict[str, tuple[str, ...]] = {
    "mode": get_args(Mode),
    "names": get_args(NamesMode),
    "epoch_axis": get_args(EpochAxis),
}

# The fields of a name template, beside `hparams.<name>`.
_NAME_FIELDS = ("experiment", "version", "phase", "owner", "time", "git", "slurm_job_id", "hostname", "run_id")
_NOT_IN_AN_ID = ":;,#?/'\\"

# What people look for here, and where it is.
_ELSEWHERE = dict.fromkeys(
    ("log_every", "log_every_n_steps", "logging_steps"),
    "; the trainer says how often rows are made: 'log_every_n_steps' in Lightning, 'logging_steps' in Hugging Face",
)


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
        resume: `auto` (a checkpoint's run goes on, where it carries one), `never`, `must` (as `auto`, but a new run is
            an error) or a run id.
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
    mode: Mode = "auto"
    dir: str | None = None
    names: NamesMode = "canonical"
    synonyms: dict[str, str] = field(default_factory=dict)
    epoch_axis: EpochAxis = "step"
    resume: str = "auto"
    finish_timeout: float = 30.0
    callbacks: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain Python."""
        return asdict(self)


def unknown_setting(key: object, origin: str, known: Iterable[str]) -> ConfigError:
    """The error for a setting that there is not."""
    hint = _ELSEWHERE.get(str(key)) or did_you_mean(str(key), known)
    return ConfigError(f"unknown setting '{key}' in {origin}{hint}")


def check_layer(layer: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The settings that `layer` gives, each of its own type; what is None is not given.

    Raises:
        ConfigError: an unknown setting, or one of a wrong type.
    """
    known = [item.name for item in fields(TrackKitConfig)]
    checked: dict[str, Any] = {}
    for key, value in layer.items():
        if key not in known:
            raise unknown_setting(key, origin, known)
        value = plain_node(value, origin)
        if value is not None:
            checked[key] = _typed(key, value, origin)
    return checked


def check_values(settings: TrackKitConfig) -> None:
    """Raises ConfigError for a value that its setting can't have."""
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
    if settings.resume not in ("auto", "never", "must"):
        check_run_id("resume", settings.resume)
    check_template(settings.name)
    from trackkit.callbacks import check_options

    check_options(settings.callbacks)


def check_run_id(source: str, run_id: str) -> None:
    """Raises ConfigError for an id that W&B refuses, or that can't be the name of a folder.

    Args:
        source: the setting or variable that gives the id.
        run_id: the id.
    """
    if set(run_id) & set(_NOT_IN_AN_ID) or run_id in (".", "..") or run_id != run_id.strip() or len(run_id) > 128:
        raise ConfigError(
            f"'{source}' must be a W&B run id: 1 to 128 characters, none of {' '.join(_NOT_IN_AN_ID)} and no blank at "
            f"its ends; got {run_id!r}; replace them, e.g. by '-'"
        )


def check_template(template: str | None) -> None:
    """Raises ConfigError for braces that don't match and for a field that no run has."""
    for name in template_fields(template or ""):
        if name not in _NAME_FIELDS and not name.startswith("hparams."):
            known = [*_NAME_FIELDS, "hparams.<name>"]
            raise ConfigError(f"unknown field '{{{name}}}' in 'name'{did_you_mean(name, known)}")


def template_fields(template: str) -> list[str]:
    """Returns the fields of a name template, in order.

    Raises:
        ConfigError: its braces don't match.
    """
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ConfigError(
            f"'name' must be a template with fields in braces; got {template!r}: {error}; "
            "write '{{' and '}}' for braces of its own"
        ) from error


def plain_node(value: Any, source: str) -> Any:
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
            return {str(name): plain_node(options, origin) for name, options in value.items()}
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
