"""What a run is called: its id, its display name, its project."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket
import string
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackkit.record.git import GitState
from trackkit.settings.config import check_run_id, template_fields

_ALPHABET = string.ascii_lowercase + string.digits


def new_run_id() -> str:
    """Eight characters of `[a-z0-9]` from the system's entropy: the training's random generators are not touched."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def given_run_id() -> str | None:
    """The id that a launcher asks for, such as a sweep's agent: WANDB_RUN_ID.

    Raises:
        ConfigError: W&B takes no such id.
    """
    run_id = os.environ.get("WANDB_RUN_ID") or None
    if run_id is not None:
        check_run_id("WANDB_RUN_ID", run_id)
    return run_id


def default_project(git: GitState | None) -> str:
    """The name of the git repository, else of the working directory, with what W&B refuses replaced by `-`."""
    folder = git.root.name if git is not None else Path.cwd().name
    return re.sub(r"[/\\#?%:\s]+", "-", folder)[:128].strip("-") or "trackkit"


def default_tags(tags: list[str]) -> list[str]:
    """`tags` with `ci` where a CI system runs this, else `local`."""
    place = "ci" if os.environ.get("CI", "").lower() in ("1", "true", "yes") else "local"
    return [*tags, *([] if place in tags else [place])]


class _Template(string.Formatter):
    """Fills a name template. A value that its format doesn't fit is put in as it is."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> Any:
        try:
            return super().format_field(value, format_spec)
        except (TypeError, ValueError):
            return str(value)


def run_name(
    template: str | None,
    run_id: str,
    phase: str,
    git: GitState | None,
    hparams: Mapping[str, Any],
    version: str = "",
) -> str:
    """The display name: `template` filled in; without one `{experiment}-{slurm_job_id or time}-{git}`.

    Args:
        template: see `TrackKitConfig.name`.
        run_id: of the run.
        phase: `fit`, `validate`, `test` or `predict`.
        git: state of the repository, where there is one.
        hparams: the user's hyperparameters, flat; `{hparams.optim.lr}` is `optim/lr`, and an unknown one is empty.
        version: the framework's own version of this experiment, such as Lightning's `version_3`.
    """
    values = {
        "experiment": _experiment(),
        "version": version,
        "phase": phase,
        "owner": _owner(),
        "time": time.strftime("%Y%m%d-%H%M%S"),
        "git": git.short if git is not None else "",
        "slurm_job_id": os.environ.get("SLURM_JOB_ID", ""),
        "hostname": socket.gethostname(),
        "run_id": run_id,
    }
    if template is None:
        parts = [values["experiment"], values["slurm_job_id"] or values["time"], values["git"]]
        return "-".join(part for part in parts if part)
    given: dict[str, Any] = dict(values)
    for field in template_fields(template):
        if name := field.removeprefix("hparams.") if field.startswith("hparams.") else "":
            given[field] = hparams.get(name, hparams.get(name.replace(".", "/"), ""))
    return _Template().vformat(template, (), given)[:128] or run_id


def _experiment() -> str:
    script = Path(sys.argv[0] if sys.argv else "").stem
    return script if script and script not in ("-c", "-m", "__main__", "ipykernel_launcher") else "run"


def _owner() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
