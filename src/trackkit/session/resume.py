"""Going on in a run: which one, and what it has already."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackkit.engine.run_info import History
from trackkit.errors import ConfigError
from trackkit.local_log.owner import claim
from trackkit.local_log.reader import RUNS, read_folder, read_json, run_folder


def find(setting: str, checkpoint: Mapping[str, Any] | None, root: Path, project: str) -> tuple[str | None, Path, str]:
    """The run that a training goes on in. It is this process's from then on: see `liveness.claim`.

    Args:
        setting: `auto`, `never` or a run id.
        checkpoint: what the checkpoint says of its run: empty where it says nothing, None where there is none.
        root: folder that run folders are made in.
        project: of this training.

    Returns:
        The run's id (None: a new run), the folder that holds its run folder, and the line to tell, "" for none.

    Raises:
        ConfigError: `setting` names a run that is not there, or that can't be gone on with.
    """
    if setting == "never":
        return None, root, ""
    if setting != "auto":
        known = checkpoint is not None and checkpoint.get("run_id") == setting
        home = _home(setting, root, checkpoint)
        if home is None and not known:
            raise ConfigError(
                f"'resume' must name a run that is there; '{setting}' has no folder in '{root / RUNS}'; "
                "give the id of one that has, 'auto' or 'never', or set 'dir' to where it is"
            )
        take("resume", home or root, setting, project, checkpoint if home is None else None)
        return setting, home or root, ""
    if checkpoint is None:
        return None, root, ""
    if "run_id" not in checkpoint:
        told = "the checkpoint names no run: this is a new run; to go on in one, set 'resume' to its id"
        return None, root, told
    run_id = str(checkpoint["run_id"])
    if checkpoint.get("project") not in (None, project):
        return None, root, f"the checkpoint's run {run_id} is of project '{checkpoint['project']}': this is a new run"
    home = _home(run_id, root, checkpoint) or root
    if not claim(run_folder(home, run_id)):
        return None, root, f"the checkpoint's run {run_id} is still open in another process: this is a new run"
    return run_id, home, ""


def check_new(setting: str, run_id: str, root: Path, given: bool) -> None:
    """Whether a training that goes on from no checkpoint may make a run, or go on in the one that WANDB_RUN_ID names.

    Raises:
        ConfigError: `must` names none; `never` names one that is there.
    """
    if setting == "must" and not given:
        raise ConfigError(
            "'resume: must' (WANDB_RESUME=must) needs a run that is there, and neither a checkpoint nor WANDB_RUN_ID "
            "names one that can be gone on with; give one of them, or use 'auto'"
        )
    if setting == "never" and given and (run_folder(root, run_id) / "rows.jsonl").exists():
        raise ConfigError(
            f"'resume: never' (WANDB_RESUME=never) makes a new run, and WANDB_RUN_ID names '{run_id}', which is there; "
            "unset one of them"
        )


def take(setting: str, root: Path, run_id: str, project: str, checkpoint: Mapping[str, Any] | None = None) -> None:
    """Claims a run that the user has named.

    Raises:
        ConfigError: it is of another project, or another process writes it.
    """
    folder = run_folder(root, run_id)
    recorded = (checkpoint or {}).get("project") or read_json(folder / "config.json").get("trackkit/settings/project")
    if recorded not in (None, project):
        raise ConfigError(
            f"'{setting}' must name a run of project '{project}'; '{run_id}' is of '{recorded}'; "
            f"set 'project' to '{recorded}', or name another run"
        )
    if not claim(folder):
        pid = read_json(folder / "run.json").get("pid", "unknown")
        raise ConfigError(
            f"'{setting}' must name a run that no other process writes; '{run_id}' is open in process {pid}; "
            "end that one first, or name another run"
        )


def read_earlier(root: Path, run_id: str) -> History:
    """Returns what earlier attempts recorded in a run's local log; nothing if there is no log."""
    folder = run_folder(root, run_id)
    if not (folder / "rows.jsonl").is_file():
        return History(root)
    found = read_folder(folder)
    rows, run = found.rows, found.run
    elapsed = found.summary.get("final/duration_h")
    if elapsed is None and any(row.tier == "batch" and row.step for row in rows):
        elapsed = max(0.0, rows[-1].time - float(run.get("started", rows[0].time))) / 3600
    return History(
        root,
        rows,
        # A power failure may empty `run.json`; the rows keep their attempt.
        attempts=max([int(run.get("passes", 1)), *(row.attempt for row in rows)]),
        summary=found.summary,
        elapsed_h=float(elapsed or 0.0),
        name=str(run.get("name", "")),
        started=float(run.get("started", 0.0)),
        exit_code=run.get("exit_code"),
    )


def checkpoint_fields(run_id: str, root: Path, project: str, seen: tuple[int, int] | None = None) -> dict[str, Any]:
    """What a checkpoint carries of its run: plain types, since checkpoints are loaded with `weights_only=True`.

    Args:
        run_id, root, project: of the run.
        seen: samples and tokens so far; None where the framework carries its own count.
    """
    fields = {"run_id": run_id, "root": str(root), "project": project, "saved": time.time()}
    return fields if seen is None else {**fields, "samples": seen[0], "tokens": seen[1]}


def _home(run_id: str, root: Path, checkpoint: Mapping[str, Any] | None) -> Path | None:
    """The folder that holds the run's folder: this training's, else the one that the checkpoint was made in."""
    homes = [root, *([Path(str(checkpoint["root"]))] if checkpoint is not None and "root" in checkpoint else [])]
    return next((each for each in homes if run_folder(each, run_id).is_dir()), None)
