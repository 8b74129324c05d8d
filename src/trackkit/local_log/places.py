"""Finds runs on disk: where the files of a run lie, and which runs a user means.

| where | what |
|---|---|
| `<output>/_trackkit/<run id>/` | the run folder |
| `<output>/_trackkit/wandb/` | W&B's files; with the setting `dir`, `<dir>/wandb/` |
| `<output>/trackkit-runs/<run id>/` | a run folder of an earlier version, resumed in place; W&B: `<output>/wandb/` |
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trackkit.errors import nearest
from trackkit.local_log import index
from trackkit.local_log.reader import read_fields
from trackkit.local_log.regular import ReadError

# The Hub's upload skips names that start with "_"; a folder named `trackkit` could be imported.
HOME = "_trackkit"
# Earlier versions recorded in the second where the output folder was pushed to the Hub.
_EARLIER = ("trackkit-runs", f"{HOME}/trackkit-runs")
_WANDB_RUN = "wandb/*run-[0-9]*"
# Folders below an output folder that hold no other output folders, and may hold very many files.
_NO_OUTPUT = re.compile(r"\.|__pycache__$|node_modules$|wandb$|checkpoint(s|-\d+)$")


@dataclass(frozen=True)
class RunOnDisk:
    """A run that was recorded here.

    Attributes:
        run_id: of the run.
        root: the output folder that all of it is in.
        folder: of its local log; None without one.
    """

    run_id: str
    root: Path
    folder: Path | None


def run_folder(root: Path, run_id: str) -> Path:
    """Returns the folder of a run's local log, given its output folder; that of an earlier version if it exists."""
    earlier = (root / home / run_id for home in _EARLIER)
    return next((folder for folder in earlier if os.path.isdir(folder)), root / HOME / run_id)


def run_folders(folder: Path) -> list[Path]:
    """Returns the run folders in an output folder, or in the folder of its runs, by name; no links to others."""
    homes = [folder] if folder.name in (HOME, *_EARLIER) else [folder / HOME]
    homes += [folder / home for home in _EARLIER]
    found = (path.parent for home in homes for path in home.glob("*/run.json"))
    return sorted((path for path in found if not path.is_symlink()), key=lambda path: path.name)


def runs_below(folder: Path) -> list[Path]:
    """Returns the run folders in a folder and in those below it, such as the output folders of a sweep; no links."""
    found = []
    for place, folders, _ in os.walk(folder):
        found += run_folders(Path(place))
        homes = {HOME, *_EARLIER}
        folders[:] = sorted(name for name in folders if name not in homes and not _NO_OUTPUT.match(name))
    return found


def root_of(folder: Path) -> Path:
    """Returns the output folder of a run folder, or of the folder `wandb` with W&B's files."""
    root = folder.parent if folder.name == "wandb" else folder.parent.parent
    return root.parent if root.name == HOME else root


def backend_folder(folder: Path, in_output: bool) -> Path:
    """Returns the folder for other backends' files, such as W&B's `wandb`.

    Args:
        folder: the run folder.
        in_output: whether they belong beside the folder of the runs (the setting `dir`) rather than in it.
    """
    return folder.parent.parent if in_output or folder.parent.name != HOME else folder.parent


def wandb_files(root: Path, run_id: str) -> list[Path]:
    """Returns a run's W&B files (`run-<id>.wandb`) below its output folder."""
    return [path for home in (root, root / HOME) for path in home.glob(f"{_WANDB_RUN}/run-{glob.escape(run_id)}.wandb")]


def siblings(folder: Path) -> list[RunOnDisk]:
    """Returns the runs in the output folder of a run folder, and in the folders beside it, such as those of a sweep."""
    root = root_of(folder)
    return [_of_folder(path) for place in {root, *root.parent.glob("*/")} for path in run_folders(place)]


def known_runs() -> list[RunOnDisk]:
    """Returns the runs in the user's list, oldest first."""
    return [_of_folder(Path(entry.folder)) for entry in index.entries()]


def find_runs(word: str | os.PathLike[str], known: Sequence[RunOnDisk] | None = None) -> list[RunOnDisk]:
    """Returns the runs that a user means; every command and function that takes runs asks here.

    Args:
        word: run id, run folder, output folder (all runs in it and below it), W&B's folder of a run, or its `.wandb`
            file.
        known: the user's list of runs, where it was read already.

    Raises:
        ReadError: there is no such run.
    """
    path = Path(os.path.expanduser(word)).absolute()
    if path.suffix == ".wandb" and os.path.isfile(path):
        return [_of_log(path)]
    if os.path.isdir(path):
        folders = [path] if (path / "run.json").is_file() else runs_below(path)
        names = ("offline-run-*", "wandb/offline-run-*", f"{HOME}/wandb/offline-run-*")
        logs = sorted(path.glob("run-*.wandb"))[:1]
        logs = logs or sorted(log for name in names for log in path.glob(f"{name}/run-*.wandb"))
        if not folders and not logs:
            raise ReadError(
                f"no run in '{word}': it has neither '{HOME}/<run id>' nor W&B's folder of an offline run. "
                "Give a run folder or an output folder."
            )
        return list(map(_of_folder, folders)) or list(map(_of_log, logs))
    known = known_runs() if known is None else known
    if found := [run for run in known if run.run_id == str(word)]:
        return found
    hint = nearest(str(word), {run.run_id for run in known})
    raise ReadError(
        f"no run '{word}': it is neither a folder nor an id in your list of runs. Give a run folder{hint or '.'}"
    )


def is_server_path(path: str | os.PathLike[str], parts: int) -> bool:
    """Returns whether a word is the path of a run (3 parts) or of a project (2) on a server, and no path here."""
    words = str(path).split("/")
    # A path that begins so is one of this machine.
    is_local = words[0] in (".", "..") or words[0][:1] == "~"
    return len(words) == parts and all(words) and not is_local and not os.path.exists(os.path.expanduser(path))


def _of_folder(folder: Path) -> RunOnDisk:
    return RunOnDisk(str(read_fields(folder).get("run_id", folder.name)), root_of(folder), folder)


def _of_log(log: Path) -> RunOnDisk:
    run_id, root = log.stem.removeprefix("run-"), root_of(log.parent.parent)
    folder = run_folder(root, run_id)
    return RunOnDisk(run_id, root, folder if (folder / "run.json").is_file() else None)
