"""What a W&B server has of a run, read through W&B's public API."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from trackkit.errors import TrackKitError
from trackkit.integrations.wandb.asking import put
from trackkit.integrations.wandb.server import credentials, probe
from trackkit.local_log.reader import NOT_FINITE

T = TypeVar("T")

PROBE_S = 5.0
_NO_RUN = re.compile(r"could not find (run|project)\b", re.IGNORECASE)


class ServerError(TrackKitError):
    """The server can't be asked, or refuses."""


@dataclass(frozen=True)
class ServerRun:
    """A run as a server has it.

    Attributes:
        path: `entity/project/run_id`.
        url: its page.
        state: W&B's word.
        rows: the whole history, NaN and infinities as floats, with W&B's own `_step` and `_timestamp`.
        lines: history lines that the server has taken; may be ahead of `rows`.
        config, summary: without W&B's own keys.
        console: lines of console output.
        seam: the last of them; None where there is none.
        artifacts: digest to state of each artifact that the run logged.
        measured: Unix time in seconds of the newest system metrics.
        fields: name, group, job_type, tags and start.
    """

    path: str
    url: str = ""
    state: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    console: int = 0
    seam: str | None = None
    artifacts: dict[str, str] = field(default_factory=dict)
    measured: float = 0.0
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def last_step(self) -> int:
        """The highest `_step`; -1 without history."""
        return max((row["_step"] for row in self.rows), default=-1)


class Server:
    """The W&B server that this environment is set up for.

    Args:
        patience: seconds that it may stay without an answer before an error says so.

    Attributes:
        key, url, entity: what the environment says, and whose account it is.
        probe_s: seconds between two looks at whether it still answers, and for one.
        stopped: set where the user wants to stop.

    Raises:
        ServerError: there is no key, the server does not answer, or refuses the key.
    """

    def __init__(self, patience: float = 60.0) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        self.key, self.url = credentials()
        self.patience = patience
        self.probe_s = min(PROBE_S, patience / 2)
        self.stopped = threading.Event()
        if not self.key:
            raise ServerError(
                f"W&B needs a key for {self.url}, and there is none in WANDB_API_KEY or ~/.netrc; run 'wandb login'"
            )
        if trouble := self.trouble():
            raise ServerError(trouble)
        import wandb

        self._api = wandb.Api(overrides={"base_url": self.url}, timeout=30, api_key=self.key)
        self.entity = self.ask(lambda: str(self._api.default_entity or ""))

    def trouble(self) -> str:
        """Why the server can't be worked with now; "" where it can."""
        found = probe(self.url, str(self.key), self.probe_s)
        if found is None:
            return ""
        if found in ("HTTP 401", "HTTP 403"):
            return f"{self.url} must know the W&B key, and answers {found}; run 'wandb login --relogin'"
        return f"the W&B server {self.url} must answer, and does not: {found}; try again later, nothing is lost"

    def ask(self, question: Callable[[], T]) -> T:
        """Answers a question to the server, within `patience` seconds of its last sign of life.

        Raises:
            ServerError: it has none, or it does not answer that question.
        """
        answer = put(question)
        silent_since: float | None = None
        next_probe = time.monotonic() + self.probe_s
        while not answer.done():
            wait([answer], 0.2)
            self.check_stopped()
            if not answer.done() and time.monotonic() > next_probe:
                trouble = self.trouble()
                silent_since = (silent_since or next_probe) if trouble else None
                if silent_since is not None and time.monotonic() - silent_since >= self.patience:
                    raise ServerError(trouble)
                next_probe = time.monotonic() + self.probe_s
        try:
            return answer.result()
        except ServerError:
            raise
        except Exception as error:
            said = str(error) or type(error).__name__
            raise ServerError(f"{self.url} must say what it has, and says: {said}") from error

    def check_stopped(self) -> None:
        """Raises ServerError where the user has asked to stop: `stopped` is set."""
        if self.stopped.is_set():
            raise ServerError("stopped; what was uploaded stays, and the same command goes on from there")

    def has(self, path: str) -> bool:
        """Whether there is a run at `entity/project/run_id`: one small request."""
        return self.ask(lambda: self._find(path) is not None)

    def run(self, path: str) -> ServerRun | None:
        """The run at `entity/project/run_id`; None where there is none."""
        return self.ask(lambda: self._run(path))

    def _find(self, path: str) -> Any:
        self._api.flush()  # type: ignore[no-untyped-call]
        try:
            return self._api.run(path)
        except Exception as error:
            # The name of a run may hold any word: only W&B's own sentence says that there is none.
            if _NO_RUN.match(str(error)):
                return None
            raise

    def _run(self, path: str) -> ServerRun | None:
        run = self._find(path)
        if run is None:
            return None
        rows = [_row(row) for row in run.scan_history(use_cache=False)]
        lines, seam = _console(run)
        system = run.history(samples=10_000, stream="system", pandas=False)
        return ServerRun(
            path=path,
            url=run.url,
            state=run.state,
            rows=rows,
            lines=int(run.historyLineCount or 0),
            config={key: value for key, value in run.config.items() if not key.startswith("_")},
            summary={key: value for key, value in run.summary._json_dict.items() if not key.startswith("_")},
            console=lines,
            seam=seam,
            artifacts={artifact.digest: artifact.state for artifact in run.logged_artifacts()},
            measured=max((float(row.get("_timestamp") or 0.0) for row in system), default=0.0),
            fields={"name": run.name, "group": run.group, "job_type": run.job_type, "tags": list(run.tags)}
            | {"started": datetime.fromisoformat(run.created_at.replace("Z", "+00:00")).timestamp()},
        )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its empty cells."""
    return {
        key: NOT_FINITE[value] if isinstance(value, str) and value in NOT_FINITE else value
        for key, value in row.items()
        if value is not None
    }


def _console(run: Any) -> tuple[int, str | None]:
    """How many lines of console output there are, and the last: its number tells, without reading them all."""
    lines = list(run.console_logs(last=1))
    return (int(lines[-1].number) + 1, str(lines[-1].content)) if lines else (0, None)
