"""Finds the runs to sync: local logs, and the W&B files beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trackkit.checkpoints.ledger import LEDGER
from trackkit.engine.processes import process_life
from trackkit.integrations.wandb.files import find_files, read_run_file, read_run_record
from trackkit.local_log import index
from trackkit.local_log.owner import is_fresh, is_running
from trackkit.local_log.places import RunOnDisk, find_runs, known_runs
from trackkit.local_log.reader import read_fields, read_json


@dataclass(frozen=True)
class Target(RunOnDisk):
    """A run to sync."""

    @property
    def files(self) -> list[Path]:
        """Its W&B files, in order of start: one for each attempt."""
        return find_files(self.root, self.run_id)

    @property
    def home(self) -> Path:
        """The folder for the sync's own files."""
        return self.folder if self.folder is not None else self.files[0].parent

    def places(self, name: str) -> list[Path]:
        """Returns where a file of the sync itself may be: in `home` or, if that is read-only, in the user's state."""
        own = f"{hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:24]}{name}"
        return [self.home / name, *(folder / "trackkit-sync" / own for folder in index.state_folders())]

    @property
    def is_running(self) -> bool:
        """Whether a process still writes it."""
        if self.folder is None:
            return self.is_open and read_run_file(self.files[-1]).exit_code is None
        return is_running(read_fields(self.folder), self.folder, *self.files)

    @property
    def is_open(self) -> bool:
        """Whether the process that wrote it is alive, even if the run has ended."""
        run = read_fields(self.folder) if self.folder is not None else {}
        life = process_life(run)
        return life == "alive" or (life == "unknown" and is_fresh(*self.files))

    def size(self) -> dict[str, int]:
        """Returns the bytes of everything that a sync uploads or compares."""
        recorded = ("run.json", "rows.jsonl", "config.json", "summary.json")
        names: tuple[str, ...] = recorded if self.folder is not None else ()
        if self.folder is not None and (self.folder / LEDGER).exists():
            names += (LEDGER,)
        files = {name: self.home / name for name in names} | {path.parent.name: path for path in self.files}
        return {name: path.stat().st_size if path.exists() else 0 for name, path in files.items()}

    def path(self, entity: str) -> str:
        """Returns the run's path on a server, `entity/project/run_id`.

        Args:
            entity: used for a run that names none.
        """
        runs = [run for path in self.files if (run := read_run_record(path)) is not None]
        config = read_json(self.folder / "config.json") if self.folder is not None else {}
        # A run that the program itself started has TrackKit's rows: what it lacks belongs there too.
        joined = str(config.get("trackkit/joined", "")).split("/")
        own, project, run_id = joined if len(joined) == 3 and not runs else ("", "", self.run_id)
        entities = [run.entity for run in runs] + [own, config.get("trackkit/settings/entity"), entity]
        projects = [run.project for run in runs] + [project, config.get("trackkit/settings/project"), "uncategorized"]
        return f"{next(filter(None, entities), '')}/{next(filter(None, projects))}/{run_id}"


def find_targets(asked: Sequence[str]) -> list[Target]:
    """Returns the runs asked for, as `find_runs` finds them; by default, all runs in the user's list.

    Raises:
        ReadError: there is no such run.
    """
    known = known_runs()
    found: dict[tuple[str, Path], Target] = {}
    for run in [run for word in asked for run in find_runs(word, known)] if asked else known:
        found.setdefault((run.run_id, run.root.resolve()), Target(run.run_id, run.root, run.folder))
    return list(found.values())
