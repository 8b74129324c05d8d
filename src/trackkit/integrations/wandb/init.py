"""Starts a W&B run: online if possible, else offline."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trackkit.engine.run_info import RunInfo
from trackkit.errors import TrackKitError
from trackkit.integrations.wandb import _compat
from trackkit.integrations.wandb.blocks import trim
from trackkit.integrations.wandb.files import find_files
from trackkit.integrations.wandb.server import credentials, explain, probe
from trackkit.local_log.owner import is_open
from trackkit.redaction.redact import MASK, redact, redact_arguments, slurm_has_secrets
from trackkit.settings.config import TrackKitConfig

if TYPE_CHECKING:
    import wandb

# With `mode: auto` training starts within 5 s; wandb itself needs one or two of them.
PROBE_S = {"auto": 2.5, "online": 10.0}
# After the probe the server is known to answer; wandb's own default is 90 s.
INIT_S = 20.0
# wandb-core ends a second after its program was killed.
ORPHAN_S = 10.0
_RECORD_NOW = "Set 'mode: auto' or 'mode: offline' to record now and upload later."


class WandbError(TrackKitError):
    """The W&B run cannot start as `mode: online` or `resume` asks."""


def start_run(config: TrackKitConfig, info: RunInfo, nested: bool) -> tuple[wandb.Run, str]:
    """Starts or resumes a run.

    Args:
        config: the settings.
        info: the run.
        nested: whether another run of this process is open.

    Returns:
        The run, and why it is offline if that was not asked for.

    Raises:
        WandbError: `mode: online` or `resume` cannot be satisfied.
    """
    import wandb

    if folder := os.environ.get("WANDB_DIR"):
        # Home folders on clusters are small.
        _compat.keep_out_of_home(Path(folder).absolute() / "wandb")
    mode, reason = _choose_mode(config.mode)
    if mode == "offline" and _resume(config, info) == "must":
        unknown = f"'{info.root}' has no such run, and W&B was not asked ({reason or 'mode: offline'})"
        raise _resume_error(config, info, unknown)
    if info.earlier is not None:
        _wait_for_orphans(info)
    try:
        return _init(config, info, nested, mode), reason
    except Exception as error:
        if mode == "offline":
            raise
        trouble = f"wandb.init failed: {type(error).__name__}: {error}"
        if isinstance(error, wandb.errors.UsageError) and _resume(config, info) != "allow":
            raise _resume_error(config, info, str(error)) from error
        if config.mode == "online":
            raise WandbError(f"Cannot start a run with 'mode: online': {trouble}. {_RECORD_NOW}") from error
        if wandb.setup().most_recent_active_run is None:
            # wandb-core still holds the id of the run that failed to start; no other run needs it.
            wandb.teardown()
        return _init(config, info, nested, "offline"), trouble


def _init(config: TrackKitConfig, info: RunInfo, nested: bool, mode: str) -> wandb.Run:
    import wandb

    info.backends.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        project=config.project,
        entity=config.entity,
        name=info.name,
        id=info.run_id,
        group=config.group,
        job_type=config.job_type,
        tags=tuple(config.tags),
        notes=redact("notes", config.notes),
        dir=str(info.backends),
        mode=mode,  # type: ignore[arg-type]
        resume=_resume(config, info),
        reinit="create_new" if nested else "default",
        settings=_settings(config, info, mode),
    )


def _settings(config: TrackKitConfig, info: RunInfo, mode: str) -> wandb.Settings:
    settings: dict[str, Any] = {
        "x_transaction_log_flush_interval": 1.0,
        # 0 means "without a bound" to wandb.
        "finish_timeout": max(config.finish_timeout, 0.1),
    }
    if mode == "offline" and "WANDB_SYMLINK" not in os.environ:
        # The run's folder has hard links to what `wandb.save` saves: `trackkit sync` follows no link out of it.
        settings["symlink"] = False
    if not config.wandb_footer:
        # TrackKit has its own lines at the start and the end.
        settings["silent"] = True
    if not console_is_wandbs():
        settings["console"] = "off"
    if config.mode == "auto" and not os.environ.get("WANDB_INIT_TIMEOUT"):
        settings["init_timeout"] = INIT_S
    if redact_arguments(sys.argv) != sys.argv or slurm_has_secrets():
        # wandb stores the program's arguments and Slurm's variables unmasked.
        settings["x_disable_meta"] = True
    if MASK in str(info.config.get("git/remote")):
        # wandb removes only the password from the remote's URL, but the user name may be a token.
        settings.update(git_remote_url=info.config["git/remote"], git_commit=info.config["git/commit"])
    return _compat.known_settings(settings)


def console_is_wandbs() -> bool:
    """Returns whether wandb records the console of runs that TrackKit starts: only if its variable asks for it."""
    return bool(os.environ.get("WANDB_CONSOLE"))


def _resume(config: TrackKitConfig, info: RunInfo) -> Literal["allow", "must", "never"]:
    """Returns wandb's `resume`: without a local log, only W&B knows whether the run exists."""
    if not info.start.is_fit or (info.earlier is not None and info.earlier.attempts):
        return "allow"
    return "must" if config.resume == "must" else "never" if config.resume == "never" else "allow"


def _resume_error(config: TrackKitConfig, info: RunInfo, why: str) -> WandbError:
    word = config.resume
    return WandbError(
        f"Cannot satisfy 'resume: {word}' (WANDB_RESUME={word}) for run '{info.run_id}': {why}. "
        "Name another run, or set 'resume: auto'."
    )


def _wait_for_orphans(info: RunInfo) -> None:
    """Waits until the wandb-core of a killed attempt has written its file, which tells what W&B already has."""
    deadline = time.monotonic() + ORPHAN_S
    for path in find_files(info.root, info.run_id):
        while (busy := is_open(path)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not busy:
            trim(path)


def _choose_mode(asked: str) -> tuple[str, str]:
    """Returns the mode to start in, and why it is not the one asked for."""
    if asked == "offline":
        return "offline", ""
    key, url = credentials()
    if not key:
        trouble = "No W&B API key in WANDB_API_KEY or ~/.netrc. Run `wandb login`."
    elif found := probe(url, key, PROBE_S[asked]):
        trouble = explain(url, found)
    else:
        return "online", ""
    if asked == "online":
        raise WandbError(f"Cannot start a run with 'mode: online': {trouble} {_RECORD_NOW}")
    return "offline", trouble
