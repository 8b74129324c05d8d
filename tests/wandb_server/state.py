"""Holds what the server received, as plain data, for tests to look at."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .artifacts import Collection, Portfolio, Version, digest_hex
from .runs import Run

if TYPE_CHECKING:
    from .sweeps import Sweep


@dataclass
class Request:
    """One request as it arrived and what was answered; `status` 0 means no answer was sent."""

    time: float
    method: str
    path: str
    operation: str
    """The GraphQL operation, or the REST route: file_stream, upload, download, metrics, other."""
    headers: dict[str, str]
    """The user agent, content type and encoding, and all headers of W&B's own."""
    size: int = 0
    status: int = 0
    done: bool = False
    """Whether the server has finished with it, with or without an answer."""
    fault: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    """GraphQL variables, or the head of a file_stream body: per file its offset and number of lines."""


@dataclass
class Alert:
    """An alert sent with run.alert."""

    run: str
    title: str
    text: str
    level: str
    wait_duration: int | None = None


@dataclass
class Project:
    """A project, created with its first run or artifact."""

    entity: str
    name: str
    number: int
    created_at: float = field(default_factory=time.time)


class State:
    """Everything that arrived. Hold `lock` for several reads at the same moment; a single read needs no lock."""

    def __init__(self, entity: str, username: str, crash_after: float) -> None:
        self.entity = entity
        self.username = username
        self.crash_after = crash_after
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.runs: dict[str, Run] = {}
        """By path, `entity/project/id`."""
        self.projects: dict[tuple[str, str], Project] = {}
        self.collections: dict[tuple[str, str, str], Collection] = {}
        """By entity, project and name."""
        self.portfolios: dict[tuple[str, str, str], Portfolio] = {}
        """By entity (of a registry: the organization's), project and name."""
        self.sweeps: dict[str, Sweep] = {}
        self.blobs: dict[str, bytes] = {}
        """Artifact files by `birth artifact id/hexadecimal digest`."""
        self.alerts: list[Alert] = []
        self.requests: list[Request] = []
        self.unserved: list[str] = []
        """Requests that this server does not know; look here first when a test of a new feature fails."""
        self.errors: list[str] = []
        """Tracebacks of errors of the server itself."""
        self._count = 0

    def number(self) -> int:
        self._count += 1
        return self._count

    def new_id(self, kind: str) -> str:
        """Returns a new id in the service's form: base64 of `Kind:number`."""
        return base64.b64encode(f"{kind}:{self.number()}".encode()).decode()

    def run(self, run_id: str) -> Run:
        """Returns the only run with this id, in any project."""
        with self.lock:
            found = [run for run in self.runs.values() if run.id == run_id]
        if len(found) != 1:
            raise KeyError(f"expected one run with the id {run_id!r}, found {len(found)} among {sorted(self.runs)}")
        return found[0]

    def run_by_storage_id(self, storage_id: str) -> Run | None:
        return next((run for run in self.runs.values() if run.storage_id == storage_id), None)

    def project(self, entity: str, name: str) -> Project:
        """Returns the project; creates it if it is new."""
        if (entity, name) not in self.projects:
            self.projects[entity, name] = Project(entity, name, self.number())
        return self.projects[entity, name]

    def runs_of(self, entity: str, project: str) -> list[Run]:
        """Returns the runs of a project that are not deleted, in order of creation."""
        return [run for run in self.runs.values() if (run.entity, run.project, run.deleted) == (entity, project, False)]

    def collection(self, name: str) -> Collection:
        """Returns the only artifact collection with this name, in any project."""
        with self.lock:
            found = [collection for collection in self.collections.values() if collection.name == name]
        if len(found) != 1:
            raise KeyError(
                f"expected one collection named {name!r}, found {len(found)} among {sorted(self.collections)}"
            )
        return found[0]

    def version(self, artifact_id: str) -> tuple[Collection, Version] | None:
        """Returns an artifact version by its id, with its collection."""
        for collection in self.collections.values():
            for version in collection.versions:
                if version.id == artifact_id:
                    return collection, version
        return None

    def file(self, collection: str, version: str, name: str) -> bytes:
        """Returns the bytes of a file of an artifact version, which is named by an alias or as `v2`."""
        with self.lock:
            found = self.collection(collection).find(version)
            if found is None:
                raise KeyError(f"{collection}:{version}")
            entry = found.contents[name]
            return self.blobs[f"{entry['birthArtifactID']}/{digest_hex(entry['digest'])}"]

    def wait_for(self, condition: Callable[[State], object], timeout: float = 300.0, what: str = "") -> None:
        """Waits until `condition(state)` holds; checks it when a request arrives and when it is done."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(f"not within {timeout} s: {what or 'the awaited state'}")
