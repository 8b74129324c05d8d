"""TrackKit: one line makes any training a complete, comparable Weights & Biases run.

from trackkit import TrackKit

Trainer(callbacks=[TrackKit()])                    # PyTorch Lightning, Hugging Face
TrainingArguments(report_to="trackkit")            # Hugging Face, after `import trackkit`
Accelerator(log_with="trackkit")                   # Accelerate, after `import trackkit`
trackkit.loop(model, optimizer)                    # a loop of your own
"""

from __future__ import annotations

import sys

from trackkit.integrations import bases
from trackkit.integrations.loading import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import wandb

    from trackkit.errors import ConfigError as ConfigError
    from trackkit.errors import SchemaError as SchemaError
    from trackkit.errors import TrackKitError as TrackKitError
    from trackkit.integrations.accelerate.measures import accelerate as accelerate
    from trackkit.integrations.accelerate.tracker import AccelerateTracker as AccelerateTracker
    from trackkit.kit import TrackKit as TrackKit
    from trackkit.kit import init as init
    from trackkit.kit import loop as loop
    from trackkit.reading.load_checkpoint import load_checkpoint as load_checkpoint
    from trackkit.reading.runs import read_run as read_run
    from trackkit.reading.runs import runs as runs
    from trackkit.session.session import log as log
    from trackkit.session.session import source as source

    __version__: str
    run: wandb.Run | None

__all__ = [
    *("AccelerateTracker", "ConfigError", "SchemaError", "TrackKit", "TrackKitError"),
    *("accelerate", "finish", "init", "load_checkpoint", "log", "loop", "read_run", "run", "runs", "source"),
]

# Loaded on first use: `import trackkit` installs the import hook and does nothing else.
_HOMES = {
    "ConfigError": "trackkit.errors:ConfigError",
    "SchemaError": "trackkit.errors:SchemaError",
    "TrackKitError": "trackkit.errors:TrackKitError",
    "TrackKit": "trackkit.kit:TrackKit",
    "AccelerateTracker": "trackkit.integrations.accelerate.tracker:AccelerateTracker",
    "accelerate": "trackkit.integrations.accelerate.measures:accelerate",
    "init": "trackkit.kit:init",
    "loop": "trackkit.kit:loop",
    "log": "trackkit.session.session:log",
    "load_checkpoint": "trackkit.reading.load_checkpoint:load_checkpoint",
    "read_run": "trackkit.reading.runs:read_run",
    "runs": "trackkit.reading.runs:runs",
    "source": "trackkit.session.session:source",
}

bases.install(_HOMES["TrackKit"])


def finish() -> None:
    """Closes every run that this process still holds open for evaluations (at exit this happens by itself)."""
    for session in reversed(_open_sessions()):
        session.close()


def _open_sessions() -> tuple[Any, ...]:
    sessions = sys.modules.get("trackkit.session.session")
    return sessions.open_sessions() if sessions is not None else ()


def __getattr__(name: str) -> Any:
    """Loads a public name. `run` is the open W&B run; None before training, and on ranks that don't write."""
    if name in _HOMES:
        value = globals()[name] = load(_HOMES[name])
        return value
    if name == "run":
        return next((each.run for each in reversed(_open_sessions()) if each.run is not None), None)
    if name == "__version__":
        from importlib.metadata import version

        return version("trackkit")
    raise AttributeError(f"module 'trackkit' has no attribute {name!r}")
