"""TrackKit: one line makes any training a complete, comparable Weights & Biases run.

from trackkit import TrackKit

Trainer(callbacks=[TrackKit()])                    # PyTorch Lightning, Hugging Face
TrainingArguments(report_to="trackkit")            # Hugging Face, after `import trackkit`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackkit.errors import ConfigError, SchemaError, TrackKitError
from trackkit.integrations import bases
from trackkit.kit import TrackKit

if TYPE_CHECKING:
    import wandb

    from trackkit.local_log.reader import read_run as read_run

    run: wandb.Run | None

__all__ = ["ConfigError", "SchemaError", "TrackKit", "TrackKitError", "finish", "read_run", "run"]

__version__ = "0.1.0"

bases.install()


def finish() -> None:
    """Closes every run that this process still holds open for evaluations (at exit this happens by itself)."""
    from trackkit.session.session import open_sessions

    for session in reversed(open_sessions()):
        session.close()


def __getattr__(name: str) -> Any:
    """`trackkit.run`: the W&B run that is being written; None before training, and on ranks that don't write."""
    if name == "read_run":
        from trackkit.local_log.reader import read_run

        return read_run
    if name != "run":
        raise AttributeError(f"module 'trackkit' has no attribute {name!r}")
    import sys

    session = sys.modules.get("trackkit.session.session")
    runs = [each.wandb_run for each in session.open_sessions()] if session is not None else []
    return next((each for each in reversed(runs) if each is not None), None)
