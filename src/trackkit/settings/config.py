"""The settings: what there is to set, and what each may be. Where they are given: `config_sources`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from trackkit.errors import ConfigError, did_you_mean
from trackkit.session.identity import check_run_id

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
    from trackkit.callbacks import check_options

    check_options(settings.callbacks)


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
