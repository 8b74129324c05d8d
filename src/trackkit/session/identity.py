"""The names of a run: its id, its display name, its project, its tags."""

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
    """Returns eight characters of `[a-z0-9]`, without touching the training's random number generators."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def given_run_id() -> str | None:
    """Returns the id in WANDB_RUN_ID, which launchers such as a sweep's agent set; None if it is not set.

    Raises:
        ConfigError: W&B does not accept the id.
    """
    run_id = os.environ.get("WANDB_RUN_ID") or None
    if run_id is not None:
        check_run_id("WANDB_RUN_ID", run_id)
    return run_id


def default_project(git: GitState | None, home: Path) -> str:
    """Returns the name of the git repository, else of the folder `home`, with `-` for what W&B refuses."""
    folder = git.root.name if git is not None else home.absolute().name
    return re.sub(r"[/\\#?%:\s]+", "-", folder)[:128].strip("-") or "trackkit"


def default_tags(tags: list[str]) -> list[str]:
    """Returns `tags` with `ci` added on a CI system, else `local`."""
    machine = "ci" if os.environ.get("CI", "").lower() in ("1", "true", "yes") else "local"
    return [*tags, *([] if machine in tags else [machine])]


class _Template(string.Formatter):
    """Fills a name template; a value that does not suit its format is inserted as it is."""

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
    """Returns the display name: `template` filled in.

    By default `{experiment}-{slurm_job_id or time}-{git}` and the end of the run id, since two runs may start in one
    second.

    Args:
        template: see `TrackKitConfig.name`.
        run_id: of the run.
        phase: `fit`, `validate`, `test` or `predict`.
        git: state of the repository; None outside of one.
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
        parts = [values["experiment"], values["slurm_job_id"] or values["time"], values["git"], run_id[-4:].strip("-")]
        return "-".join(part for part in parts if part)
    given: dict[str, Any] = dict(values)
    for field in template_fields(template):
        if name := field.removeprefix("hparams.") if field.startswith("hparams.") else "":
            given[field] = hparams.get(name, hparams.get(name.replace(".", "/"), ""))
    return _Template().vformat(template, (), given)[:128] or run_id


def _experiment() -> str:
    """Returns the name of the script, module, or notebook that runs; `python` for code without a file."""
    script = Path(sys.argv[0] if sys.argv else "")
    if script.stem == "__main__":
        return script.absolute().parent.name
    if script.stem.endswith("kernel_launcher"):
        # Jupyter's variable, and what VS Code puts into the notebook's names.
        path = os.environ.get("JPY_SESSION_NAME") or getattr(sys.modules["__main__"], "__vsc_ipynb_file__", "")
        return Path(str(path)).stem or "notebook"
    return script.stem if script.stem not in ("", "-", "-c", "-m") else "python"


def _owner() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
