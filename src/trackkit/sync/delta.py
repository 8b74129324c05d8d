"""Writes what a server lacks of a run as one transaction log, for W&B's own uploader.

W&B appends such a file to the run without comparing: if it is sent twice, the run has every row twice. A delta is
computed from what the server has, sent once and thrown away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any

from trackkit.engine.records import Row
from trackkit.integrations.wandb.blocks import Writer
from trackkit.integrations.wandb.files import LOGGER, RunFile, is_intact, make, parse
from trackkit.integrations.wandb.steps import Steps, define
from trackkit.local_log.regular import UnsafeFile, regular
from trackkit.notices import logger
from trackkit.redaction.patterns import mask
from trackkit.sync.gather import TIME, Source, cells, is_ours
from trackkit.sync.lacking import Lacking
from trackkit.sync.outgoing import mask_message, redacted
from trackkit.sync.server_run import ServerRun

# W&B's uploader writes these itself, beside the log.
_WRITTEN = frozenset({"output.log", "config.yaml", "wandb-summary.json", "wandb-metadata.json"})
# Lines of console output in one record.
_LINES = 500
# Records that may be sent again; all others, such as alerts, take effect each time.
_REPEATABLE = frozenset({"environment", "telemetry", "files"})


class Delta:
    """A transaction log with what a server lacks of a run.

    Args:
        home: folder to write it in.
        source: the run as recorded here.
        server: the run as the server has it.
        plan: what the server lacks.
        checkpoints: artifact records of checkpoints that it lacks.

    Attributes:
        path: of the log.
    """

    def __init__(
        self, home: Path, source: Source, server: ServerRun, plan: Lacking, checkpoints: Iterable[bytes] = ()
    ) -> None:
        self._source, self._server, self._plan = source, server, plan
        folder = home / f"offline-run-20000101_000000-{source.target.run_id}"
        self._media = folder / "files"
        self._media.mkdir(parents=True)
        self.path = folder / f"run-{source.target.run_id}.wandb"
        self._writer = Writer(self.path)
        self._steps = Steps(server.last_step)
        self._defined: set[str] = set()
        self._checkpoints = checkpoints
        self._write()

    def _write(self) -> None:
        """Writes everything but the end, in the order in which W&B's uploader was found to accept it."""
        source, server = self._source, self._server
        self._writer.add(self._run_record())
        for file in source.files:
            self._add_others(file)
        definitions = {name: record for file in source.files for name, record in file.definitions.items()}
        self._define(definitions, [*source.rows, *server.rows])
        self._add_rows(self._plan.rows)
        own = {key: value for key, value in source.summary.items() if key[:1] == "_" and not self._plan.is_later}
        # A summary record replaces the server's summary: the whole of it is written.
        self._add_summary({**server.summary, **own, **self._plan.summary})
        self._add_console(self._plan.console)
        for file in source.files:
            for digest, (_, record) in file.artifacts.items():
                if digest in self._plan.artifacts:
                    self._add_artifact(record)
        for record in self._checkpoints:
            self._writer.add(record)
        self._writer.flush()

    def follow(self, file: RunFile) -> None:
        """Writes what a run has recorded meanwhile.

        Args:
            file: the new records of its transaction log.
        """
        self._add_others(file)
        self._define(file.definitions, file.rows)
        self._add_rows([part for row in file.rows if (part := self._plan.stock.lacking(row)) is not None])
        if file.summary:
            self._add_summary(file.summary)
        if file.config:
            self._writer.add(make(config={"update": _items(file.config)}))
        self._add_console(file.console)
        for _, record in file.artifacts.values():
            self._add_artifact(record)
        self._writer.flush()

    def end(self, source: Source) -> None:
        """Writes the run's end and closes the log.

        Args:
            source: the run as recorded here by now.
        """
        if source.is_preempted:
            self._writer.add(make(preempting={}))
        code = source.exit_code if not self._plan.is_later else int(self._server.state != "finished")
        self._writer.add(make(exit={"exit_code": code}))
        self._writer.close()

    def _run_record(self) -> bytes:
        """Returns the run as its last file has it, or the local log's settings, to be resumed on the server."""
        source, record = self._source, parse(b"")
        run, recorded = record.run, [file.run for file in source.files if file.run is not None]
        if recorded:
            run.CopyFrom(mask_message(recorded[-1]))
        elif source.local is not None:
            run.display_name = str(source.local.run.get("name") or "")
            for name, field in (("group", "run_group"), ("job_type", "job_type"), ("notes", "notes")):
                setattr(run, field, str(source.config.get(f"trackkit/settings/{name}") or ""))
            run.tags.extend(source.config.get("trackkit/settings/tags") or ())
        run.entity, run.project, run.run_id = self._server.path.split("/")
        run.resume, run.starting_step = True, 0
        run.start_time.FromNanoseconds(int(source.started * 1e9))
        run.ClearField("summary")
        # The config is merged into the server's.
        run.config.CopyFrom(parse(make(config={"update": _items(self._plan.config)})).config)
        return bytes(record.SerializeToString())

    def _add_summary(self, values: Mapping[str, Any]) -> None:
        last = {"_step": self._steps.last} if self._steps.last >= 0 else {}
        self._writer.add(make(summary={"update": _items({**values, **last})}))

    def define_metric(self, name: str, step_metric: str | None = None, *, summary: str | None = None) -> None:
        """Writes the definition of a metric; `define` calls it as it calls `wandb.Run.define_metric`."""
        fields = {"name": name, "options": {"defined": True, "step_sync": step_metric is not None}}
        axis = {"step_metric": step_metric or "", "summary": {"none": summary == "none"}}
        self._define({name: make(metric={**fields, **axis})})

    def _define(self, definitions: Mapping[str, bytes], rows: Iterable[Row] = ()) -> None:
        """Writes the definitions of metrics, recorded ones and TrackKit's own: the run record drops them all."""
        self._defined |= definitions.keys()
        for record in definitions.values():
            self._writer.add(mask_message(parse(record)).SerializeToString())
        for key in sorted({key for row in rows for key in row.values if is_ours(key)} - self._defined):
            define(self, key, self._source.epoch_axis)

    def _add_rows(self, rows: Iterable[Row]) -> None:
        """Writes rows in order; rows of one step become one."""
        pending: dict[str, Any] = {}
        for row in rows:
            # A foreign value is found again by its row's time, which must not change.
            foreign = any(cell[0] == TIME for cell, _ in cells(row))
            time = {TIME: row.time}
            step = self._steps.place(row.step, {**row.values, **time} if foreign else row.values)
            if step != pending.get("_step"):
                self._add_row(pending)
                pending = {"_step": step, "_runtime": max(0.0, row.time - self._source.started), **time}
            pending.update(row.values, **(time if foreign else {}))
        self._add_row(pending)
        # What is written can't be merged with what follows.
        self._steps = Steps(self._steps.last)

    def _add_row(self, values: Mapping[str, Any]) -> None:
        if values:
            self._writer.add(make(history={"item": _items(values), "step": {"num": values["_step"]}}))

    def _add_console(self, lines: Iterable[tuple[int, str]]) -> None:
        for stream, printed in groupby(lines, key=lambda line: line[0]):
            texts = [f"{mask(text)}\n" for _, text in printed]
            for start in range(0, len(texts), _LINES):
                line = "".join(texts[start : start + _LINES])
                if stream == LOGGER:
                    self._writer.add(make(output_logger={"line": line}))
                else:
                    self._writer.add(make(output_raw={"output_type": stream, "line": line}))

    def _add_artifact(self, data: bytes) -> None:
        """Writes an artifact; one with other files than it was logged with is reported as not committed."""
        record = parse(data)
        if is_intact(record.artifact, Path.cwd()):
            # Its name, paths and aliases must stay as they are.
            for name in ("description", "metadata"):
                setattr(record.artifact, name, mask(getattr(record.artifact, name)))
            self._writer.add(record.SerializeToString())

    def _add_others(self, file: RunFile) -> None:
        for kind, data in file.others:
            if kind == "files":
                self._link(file.folder, [each.path for each in parse(data).files.files])
            if kind in _REPEATABLE or (not self._server.state and kind != "preempting"):
                self._writer.add(mask_message(parse(data)).SerializeToString())
        for when, data in file.stats:
            if when > self._server.measured:
                self._writer.add(data)

    def _link(self, folder: Path, names: Iterable[str]) -> None:
        """Makes a file's media and saved files found beside the log."""
        for name in set(names) - _WRITTEN:
            link = self._media / name
            if os.path.lexists(link) or ".." in link.parts:
                continue
            try:
                file = regular(folder / name, folder.parent)
            except UnsafeFile as error:
                logger.warning("Not uploaded: %s", error)
                continue
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)


def _items(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns values as the items of a record; nested ones as dictionaries."""
    return [{"nested_key": [key], "value_json": _encoded(value)} for key, value in redacted(values).items()]


def _encoded(value: Any) -> str:
    # Most are plain numbers, and there are hundreds of thousands.
    plain = type(value) is int or (type(value) is float and isfinite(value))
    return repr(value) if plain else json.dumps(value)
