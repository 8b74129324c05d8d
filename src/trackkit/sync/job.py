"""Syncs one run: uploads its W&B files in order, completes them from the local log, and verifies the whole."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trackkit.local_log.reader import RecordedRun, read_folder
from trackkit.sync.compare import expected_rows, lacking_columns
from trackkit.sync.completion import completion, epoch_axis
from trackkit.sync.fragment import Fragment, in_order
from trackkit.sync.ledger import Ledger
from trackkit.sync.lock import locked
from trackkit.sync.plan import Plan, plan
from trackkit.sync.sending import Sender
from trackkit.sync.server_run import Server, ServerError, ServerRun
from trackkit.sync.target import Target
from trackkit.sync.upload import complete
from trackkit.sync.verdict import Report, judge, went_on_elsewhere

# How long what was uploaded may take to show.
SETTLE_S = 30.0


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

    def sync(self, watch: bool = False) -> Report:
        """Brings the run to the server. What goes wrong on the server's side is in the report."""
        target = self._target
        if found := self._unchanged():
            return found
        if target.running:
            if not target.fragments:
                return Report(target, "running", "it is still being written, and has no W&B files: sync it at its end")
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
        sender = Sender(self._target, self._server, self._ledger, self._locks)
        server = self._server.run(self._path)
        if server is not None and went_on_elsewhere(self._local, [each.file for each in fragments], server):
            return self._judged(fragments, server)
        for number, fragment in enumerate(fragments):
            live = watch and number == len(fragments) - 1 and self._target.running
            part = self._plan(fragments, server, live).parts[number]
            if not fragment.needed(part, server) and not live:
                continue
            self._say(f"{'following' if live else 'uploading'} {fragment.name}")
            sender.send(fragment, part, fragments[:number], server, spare / str(number), live)
            if live:
                fragments[number] = Fragment(fragment.path)
                self._local = self._read_local()
                part = self._plan(fragments, server).parts[number]
            server = self._shown(partial(fragments[number].shown, part))
        server = self._complete(fragments, server or ServerRun(self._path), spare)
        return self._judged(fragments, server)

    def _judged(self, fragments: Sequence[Fragment], server: ServerRun) -> Report:
        report = judge(self._target, self._local, [each.file for each in fragments], server)
        if report.verdict in ("complete", "superseded"):
            found = {"path": self._path, "url": server.url, "rows": report.rows}
            self._ledger.remember({**found, "verified": time.time()})
        return report

    def _fragments(self, watch: bool) -> list[Fragment]:
        """The run's W&B files. Of a run that has just begun, W&B writes what run it is a second later."""
        while True:
            live = watch and self._target.running
            fragments = in_order(map(Fragment, self._target.fragments))
            if not live or fragments[-1].file.run_id:
                return fragments
            self._server.check_stopped()
            time.sleep(0.5)

    def _plan(self, fragments: Sequence[Fragment], server: ServerRun | None, live: bool = False) -> Plan:
        local = self._local
        expected = expected_rows(local.history) if local is not None else []
        live_pass = int(local.run.get("passes", 1)) if live and local is not None else None
        return plan(expected, fragments, server or ServerRun(self._path), epoch_axis(local), live_pass)

    def _complete(self, fragments: Sequence[Fragment], server: ServerRun, spare: Path) -> ServerRun:
        """Adds what the server lacks from the local log."""
        if self._local is None:
            return server
        rows = self._plan(fragments, server).tail
        adds = completion(self._local, expected_rows(self._local.history), rows, server)
        if not adds:
            return server
        without = "" if fragments else f"no W&B files of it lie in '{self._target.root / 'wandb'}': "
        self._say(f"{without}completing it from the local log: {adds}")
        complete(adds.task(self._path, self._local, server, tempfile.mkdtemp(dir=spare)), self._server, self._locks)
        return self._shown(
            lambda run: not self._plan(fragments, run).tail and not lacking_columns(adds.summary, run.summary)
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
