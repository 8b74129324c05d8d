"""Reads runs from a W&B server through W&B's public API."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from trackkit.engine.records import Row
from trackkit.errors import TrackKitError
from trackkit.integrations.wandb import _compat
from trackkit.integrations.wandb.files import to_row
from trackkit.integrations.wandb.server import REFUSED, credentials, explain, probe, put
from trackkit.local_log.strict import finite_words
from trackkit.redaction.patterns import mask

T = TypeVar("T")

PROBE_S = 5.0
_TICK_S = 0.5
_PAGE = 10_000
_NO_RUN = re.compile(r"could not find (run|project)\b", re.IGNORECASE)


class ServerError(TrackKitError):
    """The server does not answer, or refuses a request; secrets in what it said are masked."""

    def __init__(self, message: str) -> None:
        super().__init__(mask(message))


@dataclass(frozen=True)
class ServerRun:
    """A run as a server has it.

    Attributes:
        path: `entity/project/run_id`.
        url: its page.
        state: W&B's word; "" if the server does not know the run.
        rows: the whole history; `step` is W&B's, NaN and infinities are floats.
        config: without W&B's own keys, `_*`.
        summary: all columns.
        console: lines of console output.
        last_line: the last of them; "" without any.
        artifacts: digest to state of each artifact that the run logged.
        measured: Unix time in seconds of the newest system metrics.
        fields: name, group, job_type, tags, notes and start.
    """

    path: str
    url: str = ""
    state: str = ""
    rows: list[Row] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    console: int = 0
    last_line: str = ""
    artifacts: dict[str, str] = field(default_factory=dict)
    measured: float = 0.0
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def last_step(self) -> int:
        """The highest step of W&B's; -1 without history."""
        return max((row.step for row in self.rows), default=-1)


class Server:
    """The W&B server that this environment is set up for.

    Args:
        patience: seconds of silence after which a question fails.

    Attributes:
        key, url: the API key and the server's address, as W&B finds them.
        entity: the account's default entity.
        probe_s: seconds between two probes of whether the server still answers, and limit of each.
        stopped: set when the user wants to stop.

    Raises:
        ServerError: there is no key, the server does not answer, or refuses the key.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self.key, self.url = credentials()
        self.patience = patience
        self.probe_s = min(PROBE_S, patience / 2)
        self.stopped = threading.Event()
        if not self.key:
            raise ServerError(f"No W&B API key for {self.url} in WANDB_API_KEY or ~/.netrc. Run `wandb login`.")
        if trouble := self.trouble():
            raise ServerError(trouble)
        import wandb

        self._api = wandb.Api(overrides={"base_url": self.url}, timeout=30, api_key=self.key)
        self.entity = self.ask(lambda: str(self._api.default_entity or ""))

    def trouble(self) -> str:
        """Returns why the server can't be used now; "" if it can."""
        found = probe(self.url, str(self.key), self.probe_s)
        if found is None or found in REFUSED:
            return explain(self.url, found) if found else ""
        return f"W&B at {self.url} does not answer: {found}. Try again later; nothing is lost."

    def ask(self, question: Callable[[], T]) -> T:
        """Returns the answer to a question to the server.

        Raises:
            ServerError: the server was silent for too long, or answered with an error.
        """
        answer = put(question)
        self.watch(lambda seconds: bool(wait([answer], seconds).done))
        try:
            return answer.result()
        except Exception as error:
            said = str(error) or type(error).__name__
            raise ServerError(f"W&B at {self.url} answered with an error: {said}") from error

    def watch(self, has_ended: Callable[[float], bool], tick: Callable[[], None] = lambda: None) -> None:
        """Waits for something that needs the server.

        Args:
            has_ended: waits for the given seconds at most; returns whether it has ended.
            tick: called every half second until then.

        Raises:
            ServerError: the server was silent for `patience` seconds, or the user has asked to stop.
        """
        silent_since: float | None = None
        troubles: queue.SimpleQueue[str] = queue.SimpleQueue()
        next_probe = time.monotonic() + self.probe_s
        while not has_ended(_TICK_S):
            self.check_stopped()
            tick()
            now = time.monotonic()
            if now > next_probe:
                next_probe = now + self.probe_s
                # In a thread: a probe of a server that hangs must not hold up the ticks.
                threading.Thread(target=lambda: troubles.put(self.trouble()), daemon=True).start()
            while not troubles.empty():
                trouble = troubles.get()
                silent_since = None if not trouble else silent_since or now
                if silent_since is not None and now - silent_since >= self.patience:
                    raise ServerError(trouble)

    def check_stopped(self) -> None:
        """Raises ServerError if the user has asked to stop: `stopped` is set."""
        if self.stopped.is_set():
            raise ServerError("Stopped. What was uploaded stays; run the same command again to continue.")

    def has(self, path: str) -> bool:
        """Returns whether there is a run at `entity/project/run_id`: one small request."""
        return self.ask(lambda: self._find(path) is not None)

    def run(self, path: str) -> ServerRun:
        """Reads the run at `entity/project/run_id`; an empty one without a state if the server does not know it."""
        return self.ask(lambda: self._read(path))

    def annotate(self, run: ServerRun, notes: str) -> None:
        """Adds the lines of notes that a run lacks; those that it has stay."""
        lines = mask(notes).splitlines()

        def add() -> None:
            found = self._find(run.path)
            known = (found.notes or "").splitlines()
            found.notes = "\n".join([*known, *(line for line in lines if line not in known)])
            found.update()

        if set(lines) - set(run.fields.get("notes", "").splitlines()):
            self.ask(add)

    def project(self, path: str) -> list[ServerRun]:
        """Returns the runs of the project `entity/project`, oldest first, without what takes a request for each run."""
        return self.ask(lambda: [_described(run) for run in self._api.runs(path, order="+created_at", lazy=False)])

    def _find(self, path: str) -> Any:
        self._api.flush()  # type: ignore[no-untyped-call]
        try:
            return self._api.run(path)
        except Exception as error:
            # A run's name may hold any word: only W&B's own sentence says that there is no such run.
            if _NO_RUN.match(str(error)):
                return None
            raise

    def _read(self, path: str) -> ServerRun:
        run = self._find(path)
        if run is None:
            return ServerRun(path)
        lines = list(run.console_logs(last=1))
        committed, pending = _compat.logged_artifacts(run)
        system = run.history(samples=10_000, stream="system", pandas=False)
        return replace(
            _described(run),
            rows=[to_row(_cleaned(row), n) for n, row in enumerate(run.scan_history(page_size=_PAGE, use_cache=False))],
            console=int(lines[-1].number) + 1 if lines else 0,
            last_line=str(lines[-1].content) if lines else "",
            artifacts={
                **{each.digest: "PENDING" for each in pending},
                **{each.digest: each.state for each in committed},
            },
            measured=max((float(row.get("_timestamp") or 0.0) for row in system), default=0.0),
        )


def _described(run: Any) -> ServerRun:
    """Returns what the public API's run has loaded."""
    return ServerRun(
        path="/".join(run.path),
        url=run.url,
        state=run.state,
        config={key: value for key, value in run.config.items() if key[:1] != "_"},
        summary=dict(run.summary_metrics),
        fields={
            "name": run.name,
            "group": run.group,
            "job_type": run.job_type,
            "tags": list(run.tags),
            "notes": run.notes or "",
            "started": datetime.fromisoformat(run.created_at.replace("Z", "+00:00")).timestamp(),
        },
    )


def _cleaned(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row without its empty cells, and with NaN and infinities as floats."""
    return finite_words({key: value for key, value in row.items() if value is not None})
