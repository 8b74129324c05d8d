"""Writes a training's rows, config and summary to one W&B run."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.engine.records import Gap, Line, Row
from trackkit.engine.run_info import RunInfo
from trackkit.engine.sink import Sink
from trackkit.integrations.wandb import _compat
from trackkit.integrations.wandb.artifacts import Artifacts
from trackkit.integrations.wandb.console import earlier_lines, to_texts
from trackkit.integrations.wandb.init import WandbError, console_is_wandbs, start_run
from trackkit.integrations.wandb.media import to_media
from trackkit.integrations.wandb.steps import RowLog
from trackkit.integrations.wandb.sweep import SweepMetric
from trackkit.integrations.wandb.worker import Worker
from trackkit.local_log.console import console_name
from trackkit.notices import logger
from trackkit.settings.config import TrackKitConfig

if TYPE_CHECKING:
    import wandb

HAND_OVER_S = 5.0

_starting = threading.Lock()
_own_runs: list[wandb.Run] = []


class WandbSink(Sink):
    """Writes one W&B run, from a thread of its own.

    Joins a run that the program has already started; that run stays open at the end.

    Args:
        config: the settings.
        nested: whether another run of this process is open.

    Attributes:
        run: the W&B run; None before `open`.
    """

    FATAL: ClassVar[tuple[type[Exception], ...]] = (WandbError,)
    # The start of a W&B run may take seconds, which a training does not wait for midway.
    REOPENS: ClassVar[bool] = False

    def __init__(self, config: TrackKitConfig, nested: bool = False) -> None:
        self.run: wandb.Run | None = None
        self._rows: RowLog
        self._config = config
        self._nested = nested
        self._owner = False
        self._sweep = SweepMetric()
        self._worker = Worker(config.finish_timeout)
        self._sync = "trackkit sync"
        self._cleanup = ExitStack()

    @staticmethod
    def prepare() -> None:
        """Imports wandb."""
        import wandb  # noqa: F401

    def open(self, info: RunInfo) -> None:
        run, reason = self._start(info)
        self._sync = f"trackkit sync {info.folder}"
        self._update_config(info.config)
        self._sweep = SweepMetric.of(run)
        self._rows = rows = RowLog(run, self._config.epoch_axis, self._sweep)
        self._cleanup.callback(rows.close)
        self._worker.start()
        if info.earlier is not None and self._owner:
            self._worker.submit(rows.catch_up, info)
            self._resend_console(info)
        if not run.offline:
            self.uploads = Artifacts(run, self._config.finish_timeout)
        name = run.name or info.name
        if self.joined:
            name = f"{info.name}' in the program's own '{run.name or run.id}"
        if run.offline:
            reason = f" {reason}" if reason else ""
            upload = self._sync if self._owner else f"wandb sync {Path(run.dir).absolute().parent}"
            logger.info("Recording run '%s' offline.%s Upload it with `%s`.", name, reason, upload)
        else:
            self.place = run.url or ""
            logger.info("Recording run '%s': %s", name, run.url)

    def write(self, row: Row) -> None:
        self._worker.submit(self._rows.log, row)

    def samples(self, values: Mapping[str, Any], step: int) -> None:
        # Made into media now: the program may go on to change a figure.
        media = {key: made for key, value in values.items() if (made := to_media(key, value)) is not None}
        if media:
            row = Row(-1, "batch", step, time.time(), {"batch/step": step, **media})
            self._worker.offer(self._rows.log, row)

    def gap(self, gap: Gap) -> None:
        logger.warning("W&B lacks %s. Upload what the local log has of them with `%s`.", gap, self._sync)

    def config(self, values: Mapping[str, Any]) -> None:
        self._worker.submit(self._update_config, dict(values))

    def summary(self, values: Mapping[str, Any]) -> None:
        kept = dict(values)
        self._worker.submit(lambda: self._opened().summary.update(kept))
        # The program, or W&B's agent, may call `wandb.finish()` next.
        self._worker.flush(min(HAND_OVER_S, self._config.finish_timeout))

    def console(self, lines: Sequence[Line]) -> None:
        # The user's own run, and W&B's own capture, have them already.
        if self._owner and not console_is_wandbs():
            self._worker.offer(self._write_logs, lines)

    def preempting(self) -> None:
        run = self._opened()
        if self._owner and not run.offline:
            self._worker.submit(run.mark_preempting)

    def close(self, exit_code: int) -> None:
        began = time.monotonic()
        with self._cleanup:
            finished = self._worker.finish(lambda: self._finish(exit_code))
            if not finished:
                _compat.abandon_core(self.run if self._owner else None)
            self._sweep.warn_if_never_logged()
            self._warn_if_late(finished, time.monotonic() - began)
        self._worker.raise_error()

    def flush(self, timeout_s: float) -> None:
        """Waits until wandb has everything submitted so far; returns at once after `close`."""
        self._worker.flush(timeout_s)

    def _start(self, info: RunInfo) -> tuple[wandb.Run, str]:
        """Starts a run, or joins the program's; returns it, and why it is offline if that was not asked for."""
        import wandb

        with _starting:
            # A run that TrackKit started belongs to another training of this process.
            nested = self._nested or wandb.run in _own_runs
            joined = info.start.foreign_run if info.start.foreign_run is not None else (None if nested else wandb.run)
            if joined is not None:
                self.run = joined
                self.joined = f"{joined.entity or ''}/{joined.project}/{joined.id}"
                names = ("project", "entity", "name", "group", "job_type", "notes")
                own = {name: getattr(joined, name) for name in names}
                own["mode"] = "offline" if joined.offline else "online"
                other = [name for name, value in own.items() if getattr(self._config, name) != value]
                self.unused = dict.fromkeys([*other, "tags"], "the program has started the W&B run itself")
                return joined, ""
            self.run, reason = start_run(self._config, info, nested)
            self._owner = True
            _own_runs.append(self.run)
            self._cleanup.callback(_own_runs.remove, self.run)
            return self.run, reason

    def _finish(self, exit_code: int) -> None:
        if self._owner:
            self._opened().finish(exit_code=exit_code)

    def _warn_if_late(self, finished: bool, took_s: float) -> None:
        bound = self._config.finish_timeout
        if not self._worker.drained.is_set():
            trouble = "wandb did not accept all rows within %.0f s; they are in the local log."
        elif not finished:
            trouble = "wandb-core did not respond within %.0f s."
        elif self._owner and not self._opened().offline and took_s >= bound:
            trouble = "W&B did not receive everything within %.0f s; the rest is on disk."
        else:
            return
        logger.warning(trouble + " Upload what is missing with `%s`.", bound, self._sync)

    def _opened(self) -> wandb.Run:
        assert self.run is not None
        return self.run

    def _write_logs(self, lines: Sequence[Line]) -> None:
        if lines:
            # A line that is lost is in the local log, from which `trackkit sync` sends it.
            self._opened().write_logs("\n".join(to_texts(lines)) + "\n")

    def _resend_console(self, info: RunInfo) -> None:
        """Sends the lines of earlier attempts that W&B lacks, before the first of this one."""
        path = info.folder / console_name()
        if path.exists() and not console_is_wandbs():
            size = path.stat().st_size
            self._worker.offer(lambda: self._write_logs(earlier_lines(self._opened(), info, size)))

    def _update_config(self, values: Mapping[str, Any]) -> None:
        self._opened().config.update(dict(values), allow_val_change=True)  # type: ignore[no-untyped-call]
