"""W&B's own settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.redaction.redact import MASK, redact_arguments, slurm_has_secrets

if TYPE_CHECKING:
    import wandb

    from trackkit.engine.run_info import RunInfo
    from trackkit.settings.config import TrackKitConfig

# For what comes after the probe; W&B's own is 90 s.
INIT_S = 20.0


def known(settings: dict[str, Any]) -> wandb.Settings:
    """Those of the settings that the installed W&B has."""
    import wandb

    names = wandb.Settings.model_fields
    return wandb.Settings(**{name: value for name, value in settings.items() if name in names})


def of_training(config: TrackKitConfig, info: RunInfo) -> wandb.Settings:
    """The settings of a training's run."""
    settings: dict[str, Any] = {
        "x_transaction_log_flush_interval": 1.0,
        # W&B takes 0 for no bound at all.
        "finish_timeout": max(config.finish_timeout, 0.1),
    }
    if config.mode == "auto" and not os.environ.get("WANDB_INIT_TIMEOUT"):
        settings["init_timeout"] = INIT_S
    if redact_arguments(sys.argv) != sys.argv or slurm_has_secrets():
        # W&B stores the program's arguments and all of Slurm's variables as they are.
        settings["x_disable_meta"] = True
    if MASK in str(info.config.get("git/remote")):
        # Of a login in the remote's address W&B takes out the password only, and a token may be the user.
        settings.update(git_remote_url=info.config["git/remote"], git_commit=info.config["git/commit"])
    return known(settings)


def keep_out_of_home() -> None:
    """Where WANDB_DIR is set, W&B's cache, staging area and own logs go there too: a cluster's homes are small."""
    folder = os.environ.get("WANDB_DIR")
    if folder:
        for name in ("CACHE", "DATA"):
            os.environ.setdefault(f"WANDB_{name}_DIR", str(Path(folder).absolute() / "wandb" / f".{name.lower()}"))
