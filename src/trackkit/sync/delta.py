"""Writes what a server lacks of a run as one transaction log, for W&B's own uploader.

W&B appends such a file to the run, and compares nothing: sent twice, every row is there twice. A delta is computed from
what the server has, sent once and thrown away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trackkit.engine.records import Row
from trackkit.integrations.wandb.blocks import Writer
from trackkit.integrations.wandb.files import RunFile, parse
from trackkit.integrations.wandb.steps import Steps, define
from trackkit.sync.gather import TIME, Source, cells, is_ours
from trackkit.sync.lacking import Lacking
from trackkit.sync.server_run import ServerRun

# W&B's uploader writes these itself, beside the log.
_WRITTEN = frozenset({"output.log", "config.yaml", "wandb-summary.json", "wandb-metadata.json"})
# Records that may be sent again; all others, such as alerts, take effect each time.
_REPEATABLE = frozenset({"environment", "telemetry", "files"})


class Delta:
    """A transaction log with what a server lacks of a run.

    Args:
        home: folder to write it in.
        source: the run as recorded here.
        server: the run as the server has it.
        plan: what the server lacks.

    Attributes:
        path: of the log.
    """

    def __init__(self, home: Path, source: Source, server: ServerRun, plan: Lacking) -> None:
        self._source, self._server, self._plan = source, server, plan
        folder = home / f"offline-run-20000101_000000-{source.target.run_id}"
        self._media = folder / "files"
        self._media.mkdir(parents=True)
        self.path = folder / f"run-{source.target.run_id}.wandb"
        self._writer = Writer(self.path)
        self._steps = Steps(server.last_step)
        self._defined: set[str] = set()
        self._write()

    def _write(self) -> None:
        """Writes everything but the end, in the order in which W&B's uploader was found to accept it."""
        source, server = self._source, self._server
        self._writer.add(self._run_record())
        for file in source.files:
            self._add_others(file)
        self._define({name: record for file in source.files for name, record in file.definitions.items()})
        self._define_ours(source.rows)
        self._define_ours(server.rows)
        self._add_rows(self._plan.rows)
        own = {key: value for key, value in source.summary.items() if key[:1] == "_" and not self._plan.is_later}
        # A summary record replaces the server's summary: the whole of it is written.
        self._add_summary({**server.summary, **own, **self._plan.summary})
        lines = [line for file in source.files for line in file.console]
        self._add_console(lines[self._lines_there(lines) :])
        for file in source.files:
            self._add_stats(file)
            for digest, (_, record) in file.artifacts.items():
                if digest in self._plan.artifacts:
                    self._writer.add(record)

    def follow(self, file: RunFile) -> None:
        """Writes what a run has recorded meanwhile.

        Args:
            file: the new records of its transaction log.
        """
        self._add_others(file)
        self._define(file.definitions)
        self._define_ours(file.rows)
        self._add_rows([part for row in file.rows if (part := self._plan.stock.lacking(row)) is not None])
        if file.summary:
            self._add_summary(file.summary)
        if file.config:
            record = parse(b"")
            _fill(record.config.update, file.config)
            self._writer.add(record.SerializeToString())
        self._add_console(file.console)
        self._add_stats(file)
        for _, record in file.artifacts.values():
            self._writer.add(record)

    def _add_summary(self, values: Mapping[str, Any]) -> None:
        record = parse(b"")
        _fill(record.summary.update, {**values, "_step": self._steps.last} if self._steps.last >= 0 else values)
        self._writer.add(record.SerializeToString())

    def end(self, source: Source) -> None:
        """Writes the run's end and closes the log.

        Args:
            source: the run as recorded here by now.
        """
        exit_code = source.exit_code if not self._plan.is_later else int(self._server.state != "finished")
        if source.is_preempted:
            record = parse(b"")
            record.preempting.SetInParent()
            self._writer.add(record.SerializeToString())
        record = parse(b"")
        record.exit.exit_code = exit_code
        self._writer.add(record.SerializeToString())
        self._writer.close()

    def _run_record(self) -> bytes:
        """Returns the run as its last file has it, or the local log's settings, to be resumed on the server."""
        source, record = self._source, parse(b"")
        run, recorded = record.run, [file.run for file in source.files if file.run is not None]
        if recorded:
            run.CopyFrom(recorded[-1])
        elif source.local is not None:
            settings = {name: source.config.get(f"trackkit/settings/{name}") for name in ("group", "job_type", "notes")}
            run.display_name = str(source.local.run.get("name") or "")
            run.run_group, run.job_type, run.notes = (str(value or "") for value in settings.values())
            run.tags.extend(source.config.get("trackkit/settings/tags") or ())
            run.host = str(source.local.run.get("host") or "")
        run.entity, run.project, run.run_id = self._server.path.split("/")
        run.resume = True
        run.starting_step = 0
        run.start_time.FromNanoseconds(int(source.started * 1e9))
        run.ClearField("config")
        run.ClearField("summary")
        # Merged into the server's.
        _fill(run.config.update, self._plan.config)
        return bytes(record.SerializeToString())

    def _define(self, definitions: Mapping[str, bytes]) -> None:
        """Writes definitions of metrics: the run record has replaced those of the server."""
        self._defined |= definitions.keys()
        for record in definitions.values():
            self._writer.add(record)

    def _define_ours(self, rows: Iterable[Row]) -> None:
        keys = {key for row in rows for key in row.values}
        for key in sorted(keys - self._defined):
            if is_ours(key):
                definition = _Definition()
                define(definition, key, self._source.epoch_axis)
                self._define({key: definition.record})

    def _add_rows(self, rows: Iterable[Row]) -> None:
        """Writes rows in order; rows of one step become one."""
        pending: dict[str, Any] = {}
        at, when = -1, 0.0
        for row in rows:
            foreign = any(cell[0] == TIME for cell, _, _ in cells(row))
            named = {key: value for key, value in row.values.items() if key != "_runtime"}
            # A foreign value is found again by its row's time, which must not change.
            step = self._steps.place(row.step, {**named, TIME: row.time} if foreign else named)
            if step != at and pending:
                self._writer.add(_history_record(at, pending))
                pending, when = {}, 0.0
            at = step
            when = row.time if foreign or not when else when
            runtime = row.values.get("_runtime", max(0.0, row.time - self._source.started))
            pending = {"_runtime": runtime, **pending, **named, TIME: when}
        if pending:
            self._writer.add(_history_record(at, pending))
        # What is written can't be merged with what follows.
        self._steps = Steps(self._steps.last)

    def _lines_there(self, lines: list[tuple[int, str]]) -> int:
        """Returns how many lines of console output the server has; one that an upload cut short comes again."""
        there, last = self._server.console, self._server.last_line.rstrip()
        if 0 < there <= len(lines):
            text = lines[there - 1][1].rstrip()
            there -= text != last and text.startswith(last)
        return there

    def _add_console(self, lines: Iterable[tuple[int, str]]) -> None:
        for stream, text in lines:
            record = parse(b"")
            record.output_raw.output_type = stream
            record.output_raw.line = f"{text}\n"
            self._writer.add(record.SerializeToString())

    def _add_stats(self, file: RunFile) -> None:
        for when, record in file.stats:
            if when > self._server.measured:
                self._writer.add(record)

    def _add_others(self, file: RunFile) -> None:
        for kind, data in file.others:
            if kind == "files":
                self._link(file.folder, [each.path for each in parse(data).files.files])
            if kind in _REPEATABLE or (not self._server.state and kind != "preempting"):
                self._writer.add(data)

    def _link(self, folder: Path, names: Iterable[str]) -> None:
        """Makes a file's media and saved files found beside the log."""
        for name in set(names) - _WRITTEN:
            link = self._media / name
            if not os.path.lexists(link):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to((folder / name).absolute())


class _Definition:
    """Takes the definition of a metric as a serialized record."""

    record = b""

    def define_metric(self, name: str, step_metric: str | None = None, *, summary: str | None = None) -> None:
        record = parse(b"")
        record.metric.name = name
        record.metric.options.defined = True
        if step_metric is not None:
            record.metric.step_metric = step_metric
            record.metric.options.step_sync = True
        if summary == "none":
            record.metric.summary.none = True
        self.record = record.SerializeToString()


def _history_record(step: int, values: Mapping[str, Any]) -> bytes:
    record = parse(b"")
    _fill(record.history.item, {**values, "_step": step})
    record.history.step.num = step
    return bytes(record.SerializeToString())


def _fill(items: Any, values: Mapping[str, Any]) -> None:
    """Adds values to the items of a record; nested ones as dictionaries."""
    for key, value in values.items():
        items.add(nested_key=[key], value_json=json.dumps(value))
