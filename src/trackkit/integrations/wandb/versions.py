"""Versions of W&B artifacts that any run has logged, through W&B's public API."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.checkpoints.hashing import md5
from trackkit.integrations.wandb import _compat
from trackkit.integrations.wandb.artifacts import TYPE
from trackkit.integrations.wandb.server import ask

if TYPE_CHECKING:
    import wandb

DOWNLOAD_S = 24 * 3600.0


class DamagedError(Exception):
    """A downloaded file is not the one that was uploaded."""


@dataclass(frozen=True)
class StoredVersion:
    """A committed version on the server.

    Attributes:
        name: `entity/project/collection:v3`.
        aliases: it has now, sorted.
        metadata: as TrackKit or the user wrote it.
        size: bytes.
        artifact: wandb's object.
    """

    name: str
    aliases: Sequence[str]
    metadata: Mapping[str, Any]
    size: int
    artifact: wandb.Artifact

    @property
    def run(self) -> str:
        """Path of the run that saved it, `entity/project/run_id`; "" if the server does not know it.

        Raises:
            Unanswered: the server did not answer.
        """
        run = ask(lambda api: self.artifact.logged_by())
        return "/".join(run.path) if run is not None else ""

    @property
    def users(self) -> list[str]:
        """Paths of the runs that have used it.

        Raises:
            Unanswered: the server did not answer.
        """
        return ["/".join(run.path) for run in ask(lambda api: self.artifact.used_by())]

    def download(self, folder: Path) -> None:
        """Downloads all files to a folder, which gets them at once if it is new; does nothing if they are there.

        Raises:
            Unanswered: the server did not answer.
            DamagedError: a file has not the content that was uploaded.
            OSError: the folder can't be written.
        """
        entries = self.artifact.manifest.entries
        if folder.is_dir() and not _damaged(folder, entries):
            return
        spare = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        try:
            ask(lambda api: self.artifact.download(str(spare), skip_cache=True), DOWNLOAD_S)
            if damaged := _damaged(spare, entries):
                raise DamagedError(f"'{damaged}' of '{self.name}' arrived damaged. Try again.")
            if not folder.exists():
                os.replace(spare, folder)
                return
            # What else is in the folder is the user's.
            for name in entries:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(spare / name, folder / name)
        finally:
            shutil.rmtree(spare, ignore_errors=True)


def find_version(name: str) -> StoredVersion | None:
    """Returns the version with a name, `entity/project/collection:alias`; None if the server has none.

    Raises:
        Unanswered: the server did not answer.
    """

    def find(api: wandb.Api) -> StoredVersion | None:
        return _stored(api.artifact(name)) if api.artifact_exists(name) else None

    return ask(find)


def versions_of_run(path: str) -> list[StoredVersion]:
    """Returns the committed checkpoints that the run at `entity/project/run_id` has logged, oldest first.

    Raises:
        Unanswered: the server did not answer, or does not know the run.
    """

    def find(api: wandb.Api) -> list[StoredVersion]:
        committed, _ = _compat.logged_artifacts(api.run(path))
        return [_stored(each) for each in committed if each.type == TYPE]

    return ask(find)


def _stored(artifact: wandb.Artifact) -> StoredVersion:
    name = artifact.qualified_name.rpartition(":")[0]
    return StoredVersion(
        f"{name}:{artifact.version}", sorted(artifact.aliases), dict(artifact.metadata), artifact.size, artifact
    )


def _damaged(folder: Path, entries: Mapping[str, Any]) -> str:
    """Returns the first file that is missing or has another content than the manifest says; "" if none is."""
    for name, entry in entries.items():
        if entry.ref is None and (not (folder / name).is_file() or md5(folder / name) != entry.digest):
            return name
    return ""
