"""Syncs one run: uploads its W&B files in order, completes them from the local log, and verifies the whole."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trackkit.integrations.wandb.api import Server, ServerError, ServerRun
from trackkit.integrations.wandb.rest import Rest
from trackkit.integrations.wandb.upload import complete, upload
from trackkit.reading import RecordedRun, read_folder
from trackkit.sync.compare import Expected, addable_rows, compare, lacking_columns
from trackkit.sync.fragment import Fragment
from trackkit.sync.ledger import Ledger
from trackkit.sync.lock import locked
from trackkit.sync.target import Target
from trackkit.sync.verdict import Report, judge, wanted_summary

# How long what was uploaded may take to show.
SETTLE_S = 30.0
# How long a run whose local log has ended may take to end W&B's file too.
END_S = 90.0


class Job:
    """The sync of one run.

    Args:
        target: the run.
        server: where to.
        say: takes a line on what is being done.
    """

    def __init__(self, target: Target, server: Server, say: Callable[[str], None] = lambda line: None) -> None:
        self._target = target
        self._server = server
        self._say = say
        self._ledger = Ledger(target, server.url)
        self._locks: Sequence[int] = ()
        self._path = ""
        self._local: RecordedRun | None = None
        self._ended_at: float | None = None

    def sync(self, watch: bool = False) -> Report:
        """Brings the run to the server. What goes wrong on the server's side is in the report."""
        target = self._target
        if found := self._unchanged():
            return found
        if not target.fragments:
            return Report(target, "skipped", f"no W&B files of it lie in '{target.root / 'wandb'}'")
        if target.running:
            if not target.fragments[-1].parent.name.startswith("offline-"):
                return Report(target, "running", "it is still being written, online: sync it when it has ended")
            if not watch:
                return Report(target, "running", "it is still being written: '--watch' keeps it visible")
        try:
            fragments = self._fragments(watch)
            self._path = target.path(self._server.entity)
            spare = tempfile.TemporaryDirectory(prefix="trackkit-sync-")
            with spare as home, locked(target.home, self._server.url, self._path) as self._locks:
                return self._sync(fragments, Path(home), watch)
        except ServerError as error:
            return Report(target, "failed", str(error), url=self._url())
        except BlockingIOError:
            return Report(target, "failed", "it is being synced by another process; wait for that to end")

    # -- the steps -----------------------------------------------------------------------------------------------

    def _sync(self, fragments: list[Fragment], spare: Path, watch: bool) -> Report:
        self._local = self._read_local()
        server = self._server.run(self._path)
        for number, fragment in enumerate(fragments):
            live = watch and number == len(fragments) - 1 and self._target.running
            if not fragment.needed(server) and not live:
                continue
            if server is not None and number:
                server = self._complete(self._addable(fragments, server, fragment.first_step), {}, {}, server, spare)
            self._say(f"{'following' if live else 'uploading'} {fragment.name}")
            self._upload(fragment, fragments[:number], server, spare / str(number), live)
            if live:
                fragments[number] = fragment = Fragment(fragment.path)
                self._local = self._read_local()
            server = self._shown(fragment.shown)
        server = server or ServerRun(self._path)
        summary = config = {}
        if self._local is not None:
            summary = lacking_columns(wanted_summary(self._local), server.summary)
            config = lacking_columns(self._local.config, server.config)
        server = self._complete(self._addable(fragments, server), summary, config, server, spare)
        report = judge(self._target, self._local, [each.file for each in fragments], server)
        if report.verdict == "complete":
            found = {"path": self._path, "url": server.url, "rows": report.rows}
            self._ledger.remember({**found, "verified": time.time()})
        return report

    def _fragments(self, watch: bool) -> list[Fragment]:
        """The run's W&B files. Of a run that has just begun, W&B writes what run it is a second later."""
        while True:
            live = watch and self._target.running
            fragments = [Fragment(path) for path in self._target.fragments]
            if fragments[-1].file.run_id or not live:
                return fragments
            self._server.check_stopped()
            time.sleep(0.5)

    def _upload(
        self, fragment: Fragment, earlier: Sequence[Fragment], server: ServerRun | None, home: Path, live: bool
    ) -> None:
        lines = server.console if server else 0
        there = fragment.there(server)
        # Lines of other fragments are on the server too: how many, is noted before a fragment's first upload.
        before = self._ledger.noted(fragment.name, sum(each.file.console for each in earlier) if there else lines)
        # W&B refuses a file that a crash has cut within a record.
        if fragment.file.whole and not live and (server is None or not (server.lines or server.console)):
            upload(fragment.path, self._server, self._locks)
            return
        measured = server.measured if server else 0.0
        rest = Rest(fragment.path, home, there, max(0, lines - before), measured)
        try:
            rest.copy(final=not live)
            upload(rest.path, self._server, self._locks, live, lambda: self._follow(rest) if live else None)
        finally:
            rest.close()
        fragment.marker.touch()

    def _follow(self, rest: Rest) -> None:
        """A live run: what is new is copied; where its process has died without a word its end is written."""
        writing = self._target.writing
        rest.copy(final=not writing)
        if rest.ended or (self._target.running and writing):
            return
        self._ended_at = self._ended_at or time.monotonic()
        # W&B's own process writes the last second a moment after the training's has died.
        if time.monotonic() - self._ended_at > (END_S if writing else 2.0):
            local = self._read_local()
            rest.end(_exit_code(local) if local else 1)

    def _addable(
        self, fragments: Sequence[Fragment], server: ServerRun, below: float = float("inf")
    ) -> list[dict[str, Any]]:
        if self._local is None:
            return []
        kept = [row for each in fragments for row in each.file.rows]
        return addable_rows(self._local.history, server.rows, kept, below)

    def _complete(
        self,
        rows: list[dict[str, Any]],
        summary: dict[str, Any],
        config: dict[str, Any],
        server: ServerRun,
        spare: Path,
    ) -> ServerRun:
        """Adds what the server lacks from the local log."""
        if self._local is None or not (rows or summary or config):
            return server
        parts = [f"{len(rows)} rows"] * bool(rows) + ["summary"] * bool(summary) + ["config"] * bool(config)
        self._say(f"completing it from the local log: {', '.join(parts)}")
        entity, project, run_id = self._path.split("/")
        task: dict[str, Any] = {"entity": entity, "project": project, "run_id": run_id}
        task.update(
            folder=tempfile.mkdtemp(dir=spare),
            rows=rows,
            summary=summary,
            config=config,
            exit_code=_exit_code(self._local),
        )
        task["epoch_axis"] = str(self._local.config.get("trackkit/settings/epoch_axis", "step"))
        if server.fields == {}:
            task["fields"] = _fields(self._local)
        complete(task, self._server, self._locks)
        wanted = [Expected(row["axis"], row["step"], row["time"], row["values"]) for row in rows]
        return self._shown(
            lambda run: not compare(wanted, run.rows).missing and not lacking_columns(summary, run.summary)
        )

    def _shown(self, arrived: Callable[[ServerRun], bool]) -> ServerRun:
        """The run, once the server shows what it has taken: what does not show yet must not be sent again."""
        deadline, pause = time.monotonic() + SETTLE_S, 0.1
        while True:
            server = self._server.run(self._path)
            if server is not None and arrived(server):
                return server
            if time.monotonic() > deadline:
                raise ServerError(
                    f"what was uploaded must show within {SETTLE_S:.0f} s, and does not; run the same command later"
                )
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    # -- what is known -------------------------------------------------------------------------------------------

    def _unchanged(self) -> Report | None:
        found = self._ledger.verified()
        if not found:
            return None
        rows = int(found["rows"])
        reason = "verified before, and unchanged since: nothing to upload"
        return Report(self._target, "unchanged", reason, rows, rows, url=str(found["url"]))

    def _read_local(self) -> RecordedRun | None:
        return read_folder(self._target.folder) if self._target.folder is not None else None

    def _url(self) -> str:
        entity, project, run_id = self._path.split("/") if self._path else ("", "", "")
        return f"{self._server.url}/{entity}/{project}/runs/{run_id}" if run_id else ""


def _exit_code(local: RecordedRun) -> int:
    return int(local.run.get("exit_code", 0 if local.run.get("status") == "finished" else 1))


def _fields(local: RecordedRun) -> dict[str, Any]:
    """What W&B is told of a run that it does not know yet."""
    settings = {key: local.config.get(f"trackkit/settings/{key}") for key in ("group", "job_type", "tags", "notes")}
    return {"name": local.run.get("name"), **{key: value for key, value in settings.items() if value}}
