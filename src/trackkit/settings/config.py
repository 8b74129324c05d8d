"""The settings: their names, types, choices and defaults. `sources.py` reads them."""

from __future__ import annotations

import contextlib
import json
import os
import string
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from trackkit.errors import ConfigError, did_you_mean, nearest

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

# Settings of other tools that people look for here, and where to set them.
_ELSEWHERE = dict.fromkeys(
    ("log_every", "log_every_n_steps", "logging_steps"),
    "; set it in the framework: 'log_every_n_steps' in Lightning, 'logging_steps' in Hugging Face, "
    "'every' in trackkit.loop",
)


@dataclass
class TrackKitConfig:
    """Every setting, with its default.

    Attributes:
        project: W&B project; default: the name of the git repository, else of the folder.
        entity: W&B entity; default: the account's own.
        name: display name, a template of {experiment} {version} {phase} {owner} {time} {git} {slurm_job_id}
            {hostname} {run_id} {hparams.<name>}; default `{experiment}-{slurm_job_id or time}-{git}-{end of run_id}`.
        group, job_type, notes: as in W&B.
        tags: as in W&B; `ci` or `local` is added.
        mode: `auto` (online if W&B has a key and its server answers, else offline), `online`, `offline`, `disabled`
            (nothing is recorded).
        dir: folder for run folders; default: WANDB_DIR, else the trainer's own output folder.
        names: `canonical`, `keep` or `strict`: how logged names become keys.
        synonyms: canonical name to the name wanted instead.
        epoch_axis: x-axis of `epoch/*`: `step` or `epoch`.
        resume: `auto` (resumes the checkpoint's run), `never`, `must` (as `auto`, but a new run is an error) or the id
            of the run to resume.
        finish_timeout: seconds that the end of a run may wait for W&B; the rest stays on disk for `trackkit sync`.
        console: whether to record what the program prints.
        wandb_footer: whether W&B prints its own lines at the start and the end of a run.
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
    console: bool = True
    wandb_footer: bool = False
    callbacks: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain Python."""
        return asdict(self)


SWITCHES = frozenset(item.name for item in fields(TrackKitConfig) if item.type == "bool")
"""The settings that are true or false."""


def unknown_setting(key: object, origin: str, known: Iterable[str]) -> ConfigError:
    """Returns the error for an unknown setting.

    Args:
        key: the unknown name.
        origin: where it was given.
        known: the names that are settings.
    """
    hint = _ELSEWHERE.get(str(key)) or did_you_mean(str(key), known)
    return ConfigError(f"unknown setting '{key}' in {origin}{hint}")


def check_layer(layer: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Returns the settings of one source, converted to their types; None means "not given".

    Args:
        layer: name to value.
        origin: the source, for errors.

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
    """Raises ConfigError for a value that its setting does not allow."""
    for name, choices in CHOICES.items():
        value = getattr(settings, name)
        if value not in choices:
            near = nearest(value, choices)
            raise ConfigError(f"{name}='{value}' is not one of {', '.join(choices)}{near}")
    project = settings.project
    if project is not None and (not project.strip() or len(project) > 128 or set(project) & set("/\\#?%:")):
        raise ConfigError(
            f"project={json.dumps(project)} is not a valid W&B project name. "
            "Use 1 to 128 characters, none of them / \\ # ? % :"
        )
    if settings.resume not in ("auto", "never", "must"):
        check_run_id("resume", settings.resume)
    check_template(settings.name)
    if settings.callbacks:
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
            f"{source}={run_id!r} is not a valid W&B run id. Use 1 to 128 characters, none of them "
            f"{' '.join(_NOT_IN_AN_ID)} and no space at either end; replace those, for example, with '-'."
        )


def check_template(template: str | None) -> None:
    """Raises ConfigError for a name template with unmatched braces or an unknown field."""
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
            f"name={template!r} is not a valid template: {error}. Write '{{{{' and '}}}}' for literal braces."
        ) from error


def plain_node(value: Any, source: str) -> Any:
    """Returns an OmegaConf node, as Hydra passes, as plain Python with its interpolations resolved.

    Raises:
        ConfigError: an interpolation fails, or a value is missing.
    """
    if "omegaconf" not in sys.modules:
        return value
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not OmegaConf.is_config(value):
        return value
    try:
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"cannot resolve the settings in {source}: {error}. Correct the interpolation, or give the missing value."
        ) from error


def _typed(key: str, value: Any, origin: str) -> Any:
    if key == "tags":
        rule = "a list of strings"
        if isinstance(value, (list, tuple)) and all(_is_text(item) for item in value):
            return [str(item) for item in value]
    elif key == "synonyms":
        rule = "a mapping of names to names, such as {acc: accuracy}"
        if isinstance(value, Mapping) and all(_is_text(item) for pair in value.items() for item in pair):
            return {str(name): str(wanted) for name, wanted in value.items()}
    elif key == "callbacks":
        rule = "a mapping of callbacks to true, false or their options, such as {lr: false}"
        if isinstance(value, Mapping):
            return {str(name): plain_node(options, origin) for name, options in value.items()}
    elif key == "finish_timeout":
        rule = "a number of seconds, 0 or more"
        with contextlib.suppress(TypeError, ValueError):
            if not isinstance(value, bool) and float(value) >= 0:
                return float(value)
    elif key in SWITCHES:
        rule = "true or false"
        if isinstance(value, bool):
            return value
    else:
        rule = "a string"
        if _is_text(value) or (key == "dir" and isinstance(value, os.PathLike)):
            return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    raise ConfigError(f"{key}={value!r} in {origin} (type {type(value).__name__}) is not {rule}")


def _is_text(value: Any) -> bool:
    """Returns whether a value is text, or a number (YAML reads `name: 7` as one).

    Refuses booleans, which are what YAML makes of `yes` and `off`.
    """
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)
