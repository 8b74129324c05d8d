"""What is to be synced: a run's local log, and the W&B files that lie beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trackkit.engine.processes import process_life
from trackkit.errors import TrackKitError, did_you_mean
from trackkit.integrations.wandb.files import find_files, read_records, read_run_file
from trackkit.local_log import index
from trackkit.local_log.owner import is_fresh, is_running
from trackkit.local_log.reader import RUNS, read_json, run_folders


class SyncError(TrackKitError):
    """What was asked to be synced is not there."""


@dataclass(frozen=True)
class Target:
    """A run to sync.

    Attributes:
        run_id: of the run.
        root: the output folder that everything of it lies in.
        folder: of its local log; None where there is none.
    """

    run_id: str
    root: Path
    folder: Path | None

    @property
    def fragments(self) -> list[Path]:
        """Its W&B files, in order of start: one per process that went on in the run."""
        return find_files(self.root, self.run_id)

    @property
    def home(self) -> Path:
        """Where our own files of the sync go."""
        return self.folder if self.folder is not None else self.fragments[0].parent

    @property
    def running(self) -> bool:
        """Whether a process still writes it."""
        if self.folder is None:
            return self.writing and read_run_file(self.fragments[-1]).exit_code is None
        return is_running(read_json(self.folder / "run.json"), self.folder, *self.fragments)

    @property
    def writing(self) -> bool:
        """Whether the process that wrote it lives, even where the run in it has ended."""
        run = read_json(self.folder / "run.json") if self.folder is not None else {}
        life = process_life(run)
        return life == "alive" or (life == "unknown" and is_fresh(*self.fragments))

    def size(self) -> dict[str, int]:
        """The bytes of everything that a sync uploads or compares: what has not changed needs no other."""
        local = ("rows.jsonl", "config.json", "summary.json")
        files = [*(self.folder / name for name in local)] if self.folder is not None else []
        return {path.name if path in files else path.parent.name: _bytes(path) for path in [*files, *self.fragments]}

    def path(self, entity: str) -> str:
        """Where it lies on a server: `entity/project/run_id`.

        Args:
            entity: where the run itself names none.
        """
        heads = [_head(path) for path in self.fragments]
        config = read_json(self.folder / "config.json") if self.folder is not None else {}
        named = [*heads, [str(config.get(f"trackkit/settings/{key}") or "") for key in ("entity", "project")]]
        entities, projects = zip(*named, strict=True)
        project = next(filter(None, projects), "uncategorized")
        return f"{next(filter(None, entities), entity)}/{project}/{self.run_id}"


def find_targets(asked: Sequence[str]) -> list[Target]:
    """The runs that are meant: by run id, run folder, output folder, W&B's folder of a run; all of the index without.

    Raises:
        SyncError: there is no such run.
    """
    if not asked:
        return [_of_folder(Path(entry.folder)) for entry in index.entries()]
    found: dict[tuple[str, Path], Target] = {}
    for word in asked:
        for target in _find(word):
            found.setdefault((target.run_id, target.root.resolve()), target)
    return list(found.values())


def _find(word: str) -> list[Target]:
    path = Path(word).expanduser().absolute()
    if path.is_dir():
        if (path / "run.json").is_file():
            return [_of_folder(path)]
        if logs := sorted(path.glob("run-*.wandb")):
            return [_of_log(logs[0])]
        if folders := run_folders(path):
            return [_of_folder(folder) for folder in folders]
        if logs := sorted([*path.glob("offline-run-*/run-*.wandb"), *path.glob("wandb/offline-run-*/run-*.wandb")]):
            return [_of_log(log) for log in logs]
        raise SyncError(
            f"a folder to sync must hold '{RUNS}/<run id>' or a W&B run, and '{word}' does not; give another"
        )
    if path.suffix == ".wandb" and path.is_file():
        return [_of_log(path)]
    known = [entry for entry in index.entries() if entry.run_id == word]
    if not known:
        ids = {entry.run_id for entry in index.entries()}
        hint = did_you_mean(word, ids) if ids else ""
        raise SyncError(
            f"a run to sync is a run id of the index, a run folder, an output folder or W&B's folder of a run; "
            f"'{word}' is none of these{hint}; give the folder that it lies in"
        )
    return [_of_folder(Path(entry.folder)) for entry in known]


def _of_folder(folder: Path) -> Target:
    run_id = str(read_json(folder / "run.json").get("run_id", folder.name))
    return Target(run_id, folder.parent.parent, folder)


def _of_log(log: Path) -> Target:
    run_id, root = log.stem.removeprefix("run-"), log.parent.parent.parent
    folder = root / RUNS / run_id
    return Target(run_id, root, folder if (folder / "run.json").is_file() else None)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _head(log: Path) -> tuple[str, str]:
    """The entity and the project that a W&B file names; "" for what it does not."""
    for record in read_records(log):
        if record.WhichOneof("record_type") == "run":
            return record.run.entity, record.run.project
    return "", ""
