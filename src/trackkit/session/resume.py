"""Finds the run that a training resumes, and reads what its earlier attempts recorded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackkit.engine.run_info import History
from trackkit.errors import ConfigError
from trackkit.local_log import index
from trackkit.local_log.owner import claim
from trackkit.local_log.places import root_of, run_folder
from trackkit.local_log.reader import read_fields, read_folder, read_json


@dataclass(frozen=True)
class Found:
    """The run that a training resumes.

    Attributes:
        root: the folder that run folders are in.
        run_id: of the run; None for a new run.
        notice: why the checkpoint's run is not resumed; "" if it is, or if there is no checkpoint.
    """

    root: Path
    run_id: str | None = None
    notice: str = ""


def find(setting: str, checkpoint: Mapping[str, Any] | None, root: Path, project: str) -> Found:
    """Finds the run that a training resumes, and claims it for this process.

    Args:
        setting: `auto`, `never` or a run id.
        checkpoint: the checkpoint's fields about its run; empty if it has none, None without a checkpoint.
        root: the folder that run folders are in.
        project: of this training.

    Raises:
        ConfigError: `setting` names a run that does not exist or cannot be resumed.
    """
    if setting == "never":
        return Found(root)
    if setting != "auto":
        return _find_named(setting, checkpoint, root, project)
    if checkpoint is None:
        return Found(root)
    if "run_id" not in checkpoint:
        return Found(
            root, notice="the checkpoint names no run: recording a new run. To resume a run, set 'resume' to its id."
        )
    run_id = str(checkpoint["run_id"])
    recorded = checkpoint.get("project")
    if recorded not in (None, project):
        notice = f"the checkpoint's run {run_id} belongs to project '{recorded}', not '{project}': recording a new run"
        return Found(root, notice=notice)
    home = _home(run_id, root, checkpoint) or root
    if not claim(run_folder(home, run_id)):
        notice = f"the checkpoint's run {run_id} is open in another process: recording a new run"
        return Found(root, notice=notice)
    return Found(home, run_id)


def _find_named(run_id: str, checkpoint: Mapping[str, Any] | None, root: Path, project: str) -> Found:
    """Finds and claims the run that `resume` names; without a run folder, the checkpoint must name it too."""
    home = _home(run_id, root, checkpoint)
    if home is not None:
        claim_named("resume", home, run_id, project)
        return Found(home, run_id)
    if checkpoint is None or checkpoint.get("run_id") != run_id:
        raise ConfigError(
            f"resume='{run_id}': no such run in '{run_folder(root, run_id).parent}'. "
            "Use the id of a run in it, 'auto' or 'never', or set 'dir' to the folder that the run is in."
        )
    claim_named("resume", root, run_id, project, checkpoint)
    return Found(root, run_id)


def check_new(setting: str, run_id: str, root: Path, given: bool) -> None:
    """Checks that a training may make a new run, or resume the one that WANDB_RUN_ID names.

    Args:
        setting: the setting `resume`.
        run_id, root: of the run, and the folder that run folders are in.
        given: whether WANDB_RUN_ID names the run.

    Raises:
        ConfigError: `must` without a run to resume; `never` with a run that exists.
    """
    if setting == "must" and not given:
        raise ConfigError(
            "resume='must' (WANDB_RESUME=must): neither a checkpoint nor WANDB_RUN_ID names a run to resume. "
            "Give one of them, or use resume='auto'."
        )
    if setting == "never" and given and (run_folder(root, run_id) / "rows.jsonl").exists():
        raise ConfigError(
            f"resume='never' (WANDB_RESUME=never): WANDB_RUN_ID names '{run_id}', which exists already. "
            "Unset WANDB_RUN_ID, or use resume='auto'."
        )


def claim_named(
    setting: str, root: Path, run_id: str, project: str, checkpoint: Mapping[str, Any] | None = None
) -> None:
    """Claims a run that the user named.

    Args:
        setting: the setting or variable that names it.
        root, run_id: of the run.
        project: of this training.
        checkpoint: fields that know the run's project, if it has no folder.

    Raises:
        ConfigError: the run is of another project, or another process writes it.
    """
    folder = run_folder(root, run_id)
    recorded = (checkpoint or {}).get("project") or read_json(folder / "config.json").get("trackkit/settings/project")
    if recorded not in (None, project):
        raise ConfigError(
            f"{setting}='{run_id}': that run belongs to project '{recorded}', not '{project}'. "
            f"Set project='{recorded}', or name another run."
        )
    if not claim(folder):
        pid = read_fields(folder).get("pid", "unknown")
        raise ConfigError(
            f"{setting}='{run_id}': that run is open in process {pid}. End that process first, or name another run."
        )


def read_earlier(root: Path, run_id: str) -> History:
    """Returns what earlier attempts recorded in a run's local log; nothing if there is no log.

    Raises:
        ReadError: a newer version wrote it.
    """
    folder = run_folder(root, run_id)
    found = read_folder(folder)
    if not (folder / "rows.jsonl").is_file():
        return History(root)
    rows, run = found.rows, found.run
    elapsed = found.summary.get("final/duration_h")
    if not isinstance(elapsed, (int, float)):
        elapsed = 0.0
    if not elapsed and any(row.tier == "batch" and row.step for row in rows):
        elapsed = max(0.0, rows[-1].time - float(run.get("started", rows[0].time))) / 3600
    return History(
        root,
        rows,
        # A power failure may empty `run.json`; the rows keep their attempt.
        attempts=max([int(run.get("passes", 1)), *(row.attempt for row in rows)]),
        summary=found.summary,
        elapsed_h=float(elapsed),
        name=str(run.get("name", "")),
        started=float(run.get("started", 0.0)),
        exit_code=run.get("exit_code"),
    )


def checkpoint_fields(run_id: str, project: str, seen: tuple[int, int] | None = None) -> dict[str, Any]:
    """Returns what a checkpoint keeps of its run, in plain types: it may be loaded with `weights_only=True`.

    The same training gives the same fields, but for the run id: no time, no path.

    Args:
        run_id, project: of the run.
        seen: samples and tokens so far; None if the framework's checkpoints count them.
    """
    fields = {"run_id": run_id, "project": project}
    return fields if seen is None else {**fields, "samples": seen[0], "tokens": seen[1]}


def _home(run_id: str, root: Path, checkpoint: Mapping[str, Any] | None) -> Path | None:
    """Returns the folder that has the run's folder; None if none has it.

    Looks in `root`, in the folder that a checkpoint of an earlier version names, and in the user's list of runs.
    """
    if run_folder(root, run_id).is_dir():
        return root
    if checkpoint is None:
        return None
    homes = [Path(str(checkpoint["root"]))] if "root" in checkpoint else []
    homes += [root_of(Path(entry.folder)) for entry in reversed(_listed()) if entry.run_id == run_id]
    return next((each for each in homes if run_folder(each, run_id).is_dir()), None)


def _listed() -> list[index.Entry]:
    """Returns the user's list of runs; empty if there is no home folder for it."""
    with suppress(RuntimeError, OSError):
        return index.entries()
    return []
