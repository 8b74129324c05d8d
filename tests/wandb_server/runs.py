"""Holds what the server received of one run, as plain data."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

HISTORY = "wandb-history.jsonl"
EVENTS = "wandb-events.jsonl"
SUMMARY = "wandb-summary.json"
CONSOLE = "output.log"


@dataclass
class RunFile:
    """A file of a run: asked for by CreateRunFiles, stored by the PUT, confirmed by `uploaded` in file_stream."""

    name: str
    data: bytes | None = None
    updated_at: float = 0.0
    confirmed: bool = False


@dataclass
class Run:
    """One run. `id` is the run id of the client, `storage_id` the id under which GraphQL addresses it."""

    entity: str
    project: str
    id: str
    storage_id: str
    display_name: str
    created_at: float = field(default_factory=time.time)
    heartbeat_at: float = field(default_factory=time.time)
    crash_after: float = 300.0
    """Seconds of silence after which the run counts as crashed."""
    notes: str = ""
    description: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    host: str = ""
    program: str = ""
    commit: str = ""
    sweep: str = ""
    raw_config: dict[str, Any] = field(default_factory=dict)
    """As sent: every value inside {"value": ...}, and the client's own record under `_wandb`."""
    summary: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, dict[tuple[str, int], str]] = field(default_factory=dict)
    """File name -> (client id, offset) -> line, in order of arrival. The client id is "" outside shared mode."""
    files: dict[str, RunFile] = field(default_factory=dict)
    output_artifacts: list[str] = field(default_factory=list)
    input_artifacts: list[str] = field(default_factory=list)
    complete: bool = False
    exit_code: int | None = None
    preempting: bool = False
    resumed: int = 0
    """How often a client resumed this run after RunResumeStatus."""
    resume_asked: bool = False
    writers: list[str] = field(default_factory=list)
    """The ids of the clients that joined in shared mode."""
    stop_requested: bool = False
    forced_state: str = ""
    deleted: bool = False

    @property
    def path(self) -> str:
        return f"{self.entity}/{self.project}/{self.id}"

    @property
    def config(self) -> dict[str, Any]:
        """Returns the user's config, unwrapped."""
        return {
            key: item.get("value") if isinstance(item, dict) else item
            for key, item in self.raw_config.items()
            if key not in ("_wandb", "wandb_version")
        }

    @property
    def history(self) -> list[dict[str, Any]]:
        """Returns the logged rows, in order of offset; NaN and infinities are floats."""
        return self.rows(HISTORY)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Returns the rows of system metrics."""
        return self.rows(EVENTS)

    @property
    def console(self) -> list[str]:
        """Returns the lines of console output as streamed, each with its level (for stderr) and time in front."""
        return self.lines(CONSOLE)

    @property
    def clients(self) -> list[str]:
        """Returns the ids of the clients that wrote history or other streams in shared mode."""
        return sorted({client for stream in list(self.streams.values()) for client, _ in list(stream) if client})

    def lines(self, name: str) -> list[str]:
        """Returns the lines of a streamed file; those of several writers in order of arrival."""
        stream = self.streams.get(name, {})
        if len({client for client, _ in list(stream)}) > 1:
            return list(stream.values())
        return [line for _, line in sorted(stream.items())]

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(name)]

    def write(self, name: str, client: str, offset: int, content: list[str]) -> None:
        """Stores a chunk: its line `i` has the position `offset + i`, and replaces an earlier line there."""
        stream = self.streams.setdefault(name, {})
        for index, line in enumerate(content, offset):
            stream[client, index] = line
        if name == SUMMARY and content:
            # One line holds the whole summary; in shared mode each writer knows only its own keys.
            self.summary = json.loads(content[-1]) if not client else {**self.summary, **json.loads(content[-1])}

    @property
    def state(self) -> str:
        """Returns the state that the service would show."""
        if self.forced_state:
            return self.forced_state
        if self.complete:
            if self.exit_code == 0:
                return "finished"
            return "preempted" if self.preempting else "failed"
        if time.time() - self.heartbeat_at > self.crash_after:
            return "preempted" if self.preempting else "crashed"
        return "preempting" if self.preempting else "running"

    def join(self, client: str) -> None:
        """Notes an UpsertBucket by name: the client starts the run, resumes it, or only updates its config."""
        known = client in self.writers
        if client and not known:
            self.writers.append(client)
        if not known and (self.complete or self.resume_asked or self.forced_state):
            self.reopen()

    def reopen(self) -> None:
        """Resets the end of a run that is resumed."""
        self.complete, self.exit_code, self.preempting, self.forced_state = False, None, False, ""
        self.stop_requested = False
        if self.resume_asked:
            self.resumed += 1
            self.resume_asked = False
