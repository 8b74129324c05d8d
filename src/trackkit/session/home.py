"""Where a run is recorded: where it was before, if it goes on, else in a folder that is new."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trackkit.engine.run_info import History
from trackkit.local_log.owner import claim
from trackkit.local_log.reader import run_folder
from trackkit.notices import logger
from trackkit.session import identity, resume


@dataclass(frozen=True)
class Home:
    """A run and its place.

    Attributes:
        run_id: of the run.
        root: the folder that its run folder lies in.
        earlier: what it has recorded already; None for a new run.
    """

    run_id: str
    root: Path
    earlier: History | None = None


def settle(run_id: str, root: Path, project: str, resumed: bool) -> Home:
    """The place that this process records the run in: nobody else does.

    Args:
        run_id, root: proposed.
        project: of the run.
        resumed: whether the id may already have a folder.

    Raises:
        ConfigError: the run that a launcher asks for is of another project, or another process writes it.
    """
    if run_id == identity.given_run_id():
        resume.take("WANDB_RUN_ID", root, run_id, project)
    # Not where an evaluation in a process of its own finds that the fit's still has the run open.
    if resumed and claim(run_folder(root, run_id)):
        earlier = resume.read_earlier(root, run_id)
        return Home(run_id, _writable(root, run_id), earlier)
    run_id = _free_id(root, run_id)
    return Home(run_id, _writable(root, run_id))


def _writable(root: Path, run_id: str) -> Path:
    """`root`, or, where a run folder can't be made in it, a temporary folder of this user's: told."""
    folder = run_folder(root, run_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return root
    except OSError as error:
        spare = Path(tempfile.gettempdir()) / f"trackkit-{os.getuid()}"
        logger.warning(
            "the run's folder must be writable, and '%s' is not (%s): the run is recorded in '%s' instead; "
            "set 'dir' to a folder that can be written",
            folder,
            error.strerror,
            spare,
        )
        return spare


def _free_id(root: Path, run_id: str) -> str:
    """`run_id`, or the next of `run_id-2`, `run_id-3` whose folder this process is the one to make.

    A spawned fit can't tell its parent which id it has taken, and its siblings begin at the same moment.
    """
    number, free = 1, run_id
    while True:
        try:
            run_folder(root, free).mkdir(parents=True)
        except FileExistsError:
            number += 1
            free = f"{run_id}-{number}"
        except OSError:
            # `_writable` looks elsewhere, and says why.
            return free
        else:
            return free
