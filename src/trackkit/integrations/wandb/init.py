"""How a W&B run begins: online where that can be, offline where it has to be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from trackkit.engine.run_info import RunInfo
from trackkit.errors import TrackKitError
from trackkit.integrations.wandb.blocks import trim
from trackkit.integrations.wandb.files import find_files
from trackkit.integrations.wandb.server import REFUSED, credentials, probe
from trackkit.integrations.wandb.settings import keep_out_of_home, of_training
from trackkit.local_log.owner import is_open
from trackkit.redaction.redact import redact
from trackkit.settings.config import TrackKitConfig

if TYPE_CHECKING:
    import wandb

# `auto` begins to train within 5 s, of which wandb itself takes one or two.
PROBE_S = {"auto": 2.5, "online": 10.0}
# W&B's process ends a second after its program was killed.
ORPHAN_S = 10.0


class WandbError(TrackKitError):
    """`mode: online`, or what `resume` says, was asked for and can't be."""


def begin(config: TrackKitConfig, info: RunInfo, nested: bool) -> tuple[wandb.Run, str]:
    """Begins a run, or goes on in it.

    Args:
        config: the settings.
        info: of the run.
        nested: whether it begins beside another one of this process.

    Returns:
        The run, and why it is offline where that is not what was asked for.

    Raises:
        WandbError: `mode: online` or `resume` can't be met.
    """
    import wandb

    keep_out_of_home()
    mode, why = _choose_mode(config.mode)
    if mode == "offline" and _resume(config, info) == "must":
        raise _not_as_asked(config, info, f"it has no folder in '{info.root}', and W&B can't be asked ({why or mode})")
    if info.earlier is not None:
        _await_orphans(info)
    try:
        return _init(config, info, nested, mode), why
    except Exception as error:
        if mode == "offline":
            raise
        trouble = f"wandb.init failed: {type(error).__name__}: {error}"
        if isinstance(error, wandb.errors.UsageError) and _resume(config, info) != "allow":
            raise _not_as_asked(config, info, str(error)) from error
        if config.mode == "online":
            raise WandbError(
                f"'mode: online' needs a W&B server that takes the run; {trouble}; "
                "use 'mode: auto' or 'mode: offline' to record now and send it later"
            ) from error
        if wandb.setup().most_recent_active_run is None:
            # W&B's own process holds the id of a run that it could not begin; nothing else needs that process.
            wandb.teardown()
        return _init(config, info, nested, "offline"), trouble


def _init(config: TrackKitConfig, info: RunInfo, nested: bool, mode: str) -> wandb.Run:
    import wandb

    settings = of_training(config, info)
    info.root.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        project=config.project,
        entity=config.entity,
        name=info.name,
        id=info.run_id,
        group=config.group,
        job_type=config.job_type,
        tags=tuple(config.tags),
        notes=redact("notes", config.notes),
        dir=str(info.root),
        mode=mode,  # type: ignore[arg-type]
        resume=_resume(config, info),
        reinit="create_new" if nested else "default",
        settings=settings,
    )


def _resume(config: TrackKitConfig, info: RunInfo) -> Literal["allow", "must", "never"]:
    """W&B's word for a run that may be there: it knows of one that has no local log here."""
    if not info.start.is_fit or (info.earlier is not None and info.earlier.attempts):
        return "allow"
    return "must" if config.resume == "must" else "never" if config.resume == "never" else "allow"


def _not_as_asked(config: TrackKitConfig, info: RunInfo, why: str) -> WandbError:
    return WandbError(
        f"'resume: {config.resume}' (WANDB_RESUME={config.resume}) can't be met for run '{info.run_id}': {why}; "
        "name another run, or use 'resume: auto'"
    )


def _await_orphans(info: RunInfo) -> None:
    """W&B's process of a program that was killed may still write and send: what it has sent is the watermark."""
    deadline = time.monotonic() + ORPHAN_S
    for path in find_files(info.root, info.run_id):
        while (busy := is_open(path)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not busy:
            trim(path)


def _choose_mode(asked: str) -> tuple[str, str]:
    """The mode to start in, and why, where it is not the one asked for."""
    if asked == "offline":
        return "offline", ""
    key, url = credentials()
    if not key:
        if asked == "online":
            raise WandbError(
                "'mode: online' needs a W&B key, and there is none in WANDB_API_KEY or ~/.netrc; "
                "run 'wandb login', or use 'mode: auto' or 'mode: offline'"
            )
        return "offline", "no W&B key; 'wandb login' sets one"
    trouble = probe(url, key, PROBE_S[asked])
    if trouble is None:
        return "online", ""
    if trouble in [f"HTTP {code}" for code in REFUSED]:
        trouble += ": it refuses the key; 'wandb login --relogin' sets another"
    if asked == "online":
        raise WandbError(
            f"'mode: online' needs a W&B server that answers; {url}/graphql was asked, for at most "
            f"{PROBE_S[asked]:.0f} s, whose the key is: {trouble}; "
            "use 'mode: auto' or 'mode: offline' to record now and send it later"
        )
    return "offline", f"{url}: {trouble}"
