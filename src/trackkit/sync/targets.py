"""Finds the runs to sync: local logs, and the W&B files beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trackkit.engine.processes import process_life
from trackkit.errors import TrackKitError, did_you_mean
from trackkit.integrations.wandb.files import find_files, read_run_file, read_run_record
from trackkit.local_log import index
from trackkit.local_log.owner import is_fresh, is_running
from trackkit.local_log.reader import RUNS, read_json, run_folders


class SyncError(TrackKitError):
    """There is no such run to sync."""


@dataclass(frozen=True)
class Target:
    """A run to sync.

    Attributes:
        run_id: of the run.
        root: the output folder that all of it is in.
        folder: of its local log; None without one.
    """

    run_id: str
    root: Path
    folder: Path | None

    @property
    def files(self) -> list[Path]:
        """Its W&B files, in order of start: one for each attempt."""
        return find_files(self.root, self.run_id)

    @property
    def home(self) -> Path:
        """The folder for the sync's own files."""
        return self.folder if self.folder is not None else self.files[0].parent

    def places(self, name: str) -> list[Path]:
        """Returns where a file of the sync's own may lie: in `home` or, if that is read-only, among the user's own."""
        own = f"{hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:24]}{name}"
        return [self.home / name, *(folder / "trackkit-sync" / own for folder in index.state_folders())]

    @property
    def is_running(self) -> bool:
        """Whether a process still writes it."""
        if self.folder is None:
            return self.is_open and read_run_file(self.files[-1]).exit_code is None
        return is_running(read_json(self.folder / "run.json"), self.folder, *self.files)

    @property
    def is_open(self) -> bool:
        """Whether the process that wrote it lives, even if the run in it has ended."""
        run = read_json(self.folder / "run.json") if self.folder is not None else {}
        life = process_life(run)
        return life == "alive" or (life == "unknown" and is_fresh(*self.files))

    def size(self) -> dict[str, int]:
        """Returns the bytes of everything that a sync uploads or compares."""
        names = ("rows.jsonl", "config.json", "summary.json") if self.folder is not None else ()
        files = {name: self.home / name for name in names} | {path.parent.name: path for path in self.files}
        return {name: path.stat().st_size if path.exists() else 0 for name, path in files.items()}

    def path(self, entity: str) -> str:
        """Returns where it belongs on a server: `entity/project/run_id`.

        Args:
            entity: for a run that names none.
        """
        runs = [run for path in self.files if (run := read_run_record(path)) is not None]
        config = read_json(self.folder / "config.json") if self.folder is not None else {}
        entities = [run.entity for run in runs] + [config.get("trackkit/settings/entity"), entity]
        projects = [run.project for run in runs] + [config.get("trackkit/settings/project"), "uncategorized"]
        return f"{next(filter(None, entities), '')}/{next(filter(None, projects))}/{self.run_id}"


def find_targets(asked: Sequence[str]) -> list[Target]:
    """Returns the runs asked for by run id, run folder, output folder or W&B's folder; by default all of the index.

    Raises:
        SyncError: there is no such run.
    """
    found: dict[tuple[str, Path], Target] = {}
    known = [_of_folder(Path(entry.folder)) for entry in index.entries()]
    for target in [each for word in asked for each in _find(word, known)] if asked else known:
        found.setdefault((target.run_id, target.root.resolve()), target)
    return list(found.values())


def _find(word: str, known: Sequence[Target]) -> list[Target]:
    path = Path(word).expanduser().absolute()
    if path.suffix == ".wandb" and path.is_file():
        return [_of_log(path)]
    if path.is_dir():
        folders = [path] if (path / "run.json").is_file() else run_folders(path)
        names = ("offline-run-*/run-*.wandb", "wandb/offline-run-*/run-*.wandb")
        logs = sorted(path.glob("run-*.wandb"))[:1] or sorted(log for name in names for log in path.glob(name))
        if not folders and not logs:
            raise SyncError(f"No run in '{word}': neither '{RUNS}/<run id>' nor a W&B run. Give the folder of one.")
        return list(map(_of_folder, folders)) or list(map(_of_log, logs))
    if found := [target for target in known if target.run_id == word]:
        return found
    hint = did_you_mean(word, {target.run_id for target in known}) if known else ""
    raise SyncError(f"No run '{word}': neither a folder nor the id of a run of yours{hint}. Give the run's folder.")


def _of_folder(folder: Path) -> Target:
    run_id = str(read_json(folder / "run.json").get("run_id", folder.name))
    return Target(run_id, folder.parent.parent, folder)


def _of_log(log: Path) -> Target:
    run_id, root = log.stem.removeprefix("run-"), log.parent.parent.parent
    folder = root / RUNS / run_id
    return Target(run_id, root, folder if (folder / "run.json").is_file() else None)
