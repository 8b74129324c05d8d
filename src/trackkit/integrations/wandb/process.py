"""W&B's own process, wandb-core, where it does not answer any more."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from trackkit.engine.processes import is_stopped

if TYPE_CHECKING:
    import wandb


def give_up(run: wandb.Run | None) -> None:
    """Nobody waits for it any more: W&B's exit handler would, without a bound; the next run gets a new one.

    It ends by itself a moment after the program, once it has written what it has. One that is stopped never would, and
    is killed. W&B has no public way to any of this: what a version of it lacks is left out.
    """
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import module
    from wandb.sdk.lib.service import service_token

    with contextlib.suppress(AttributeError, ImportError):
        import wandb

        if run is not None and wandb.run is run:
            module.unset_globals()  # type: ignore[no-untyped-call]
    with contextlib.suppress(AttributeError, ProcessLookupError):
        connection: Any = wandb_setup.singleton()._connection
        if connection is None or connection._proc is None:
            return
        connection._cleanup()
        service_token.clear_service_in_env()
        wandb_setup._singleton = None
        # Its thread for what is left over at exit would tell of a process that is gone.
        connection._finalizer._queue.put(None)
        if is_stopped(connection._proc._process.pid):
            os.kill(connection._proc._process.pid, signal.SIGKILL)
