"""The Weights & Biases backend."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.config import TrackKitConfig
from trackkit.errors import TrackKitError
from trackkit.integrations.wandb_file import find_files, read_history, trim
from trackkit.integrations.wandb_place import Place
from trackkit.integrations.wandb_probe import REFUSED, credentials, probe
from trackkit.liveness import is_open
from trackkit.notices import logger
from trackkit.records import Row, RunInfo
from trackkit.redaction import redact, redact_arguments
from trackkit.schema import AXES, axis_key
from trackkit.sinks import Sink

if TYPE_CHECKING:
    import wandb

    from trackkit.resume import Earlier

# `auto` begins to train within 5 s, of which wandb itself takes one or two.
PROBE_S = {"auto": 2.5, "online": 10.0}
# For what comes after the probe; W&B's own is 90 s.
INIT_S = 20.0
GATHER_S = 0.25
QUIET_S = 1.0
HAND_OVER_S = 5.0
# W&B's process ends a second after its program was killed.
ORPHAN_S = 10.0
_NO_SUMMARY = ("batch/", "device/", "ranks/")


_beginning = threading.Lock()
_owners: list[WandbSink] = []


class WandbError(TrackKitError):
    """`mode: online` was asked for, and can't be."""


class WandbSink(Sink):
    """Writes one W&B run, from a thread of its own: `run.log` costs 0.1 to 0.3 ms, `run.step` is a round trip.

    Every row is logged at an explicit step, never backwards. Where another logger of the same training logs to the
    same run and has pushed its counter on, the row goes to that step: its axis keys carry the truth.
    """

    FATAL: ClassVar[tuple[type[Exception], ...]] = (WandbError,)

    def __init__(self, config: TrackKitConfig, nested: bool = False) -> None:
        self.run: wandb.Run | None = None
        self._config = config
        self._nested = nested
        self._owner = False
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._why = ""
        self._defined: set[str] = set()
        self._place = Place()
        self._lock = threading.RLock()
        self._hurry = threading.Event()
        self._drained = threading.Event()
        self._finished = threading.Event()
        self._publish: Callable[..., Any] | None = None
        self._ours = self._counter_known = False
        self._written: dict[str, int] = {}
        self._floor = -1

    def open(self, info: RunInfo) -> None:
        import wandb

        with _beginning:
            # A run of TrackKit's own that is open in this process is another training's: never to be shared.
            self._nested = self._nested or (wandb.run is not None and wandb.run in [each.run for each in _owners])
            shared = info.foreign_run if info.foreign_run is not None else (None if self._nested else wandb.run)
            self._owner = shared is None
            self.run = shared if shared is not None else self._init(info)
            if self._owner:
                _owners.append(self)
        self._update_config(info.config)
        self._guard_order(self.run)
        self._thread = threading.Thread(target=self._work, name="trackkit-wandb", daemon=True)
        self._thread.start()
        if (earlier := info.earlier) is not None and self._owner:
            self._submit(lambda: self._catch_up(earlier, info))
        why = f" ({self._why})" if self._why else ""
        where = self.run.url if not self.run.offline else f"offline{why}; to send it: trackkit sync {info.folder}"
        logger.info("run '%s': %s", self.run.name or info.name, where)

    def write(self, row: Row) -> None:
        self._submit(lambda: self._log(row))

    def config(self, values: Mapping[str, Any]) -> None:
        kept = dict(values)
        self._submit(lambda: self._update_config(kept))

    def summary(self, values: Mapping[str, Any]) -> None:
        kept = dict(values)
        self._submit(lambda: self._of_run().summary.update(kept))
        # Training is over, and the next may be a `wandb.finish()`: the program's, or that of W&B's agent.
        self.flush(HAND_OVER_S)

    def preempting(self) -> None:
        run = self._of_run()
        if self._owner and not run.offline:
            self._submit(run.mark_preempting)

    def close(self, exit_code: int) -> None:
        bound = self._config.finish_timeout
        self._tasks.put(None)
        self._hurry.set()
        try:
            if self._thread is not None and not self._drained.wait(bound):
                logger.warning("W&B has not taken all rows within %.0f s; the local log has them", bound)
            elif self._owner and self.run is not None:
                began = time.monotonic()
                self.run.finish(exit_code=exit_code)
                if not self.run.offline and time.monotonic() - began >= bound:
                    logger.warning(
                        "W&B has not taken everything within %.0f s; it is on disk, and 'trackkit sync' sends it", bound
                    )
        finally:
            self._finished.set()
            if self in _owners:
                _owners.remove(self)
            if self._thread is not None and self._drained.is_set():
                self._thread.join(QUIET_S)
            if self._publish is not None and self.run is not None:
                self.run._partial_history_callback = self._publish  # type: ignore[method-assign]
        self._raise_failed()

    def flush(self, timeout_s: float) -> None:
        """Waits until everything submitted so far has been handed to W&B; not after `close`."""
        if self._drained.is_set():
            return
        done = threading.Event()
        self._submit(done.set)
        self._hurry.set()
        done.wait(timeout_s)
        self._hurry.clear()

    # -- the run -------------------------------------------------------------------------------------------------

    def _init(self, info: RunInfo) -> wandb.Run:
        import wandb

        _keep_out_of_home()
        mode, self._why = self._choose_mode()
        if info.earlier is not None:
            self._await_orphans(info)
        try:
            return self._init_as(mode, info)
        except Exception as error:
            if mode == "offline":
                raise
            trouble = f"wandb.init failed: {type(error).__name__}: {error}"
            if self._config.mode == "online":
                raise WandbError(
                    f"'mode: online' needs a W&B server that takes the run; {trouble}; "
                    "use 'mode: auto' or 'mode: offline' to record now and send it later"
                ) from error
            self._why = trouble
            if wandb.setup().most_recent_active_run is None:
                # W&B's own process holds the id of a run that it could not begin; nothing else needs that process.
                wandb.teardown()
            return self._init_as("offline", info)

    def _init_as(self, mode: str, info: RunInfo) -> wandb.Run:
        import wandb

        config = self._config
        settings: dict[str, Any] = {
            "x_transaction_log_flush_interval": 1.0,
            # W&B takes 0 for no bound at all.
            "finish_timeout": max(config.finish_timeout, 0.1),
        }
        if config.mode == "auto" and not os.environ.get("WANDB_INIT_TIMEOUT"):
            settings["init_timeout"] = INIT_S
        if redact_arguments(sys.argv) != sys.argv:
            # W&B stores the program's arguments as they are.
            settings["x_disable_meta"] = True
        known = wandb.Settings.model_fields
        info.root.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=config.project,
            entity=config.entity,
            name=info.name,
            id=info.run_id,
            group=config.group,
            job_type=config.job_type,
            tags=tuple(config.tags),
            notes=redact("notes", config.notes),
            dir=str(info.root),
            mode=mode,  # type: ignore[arg-type]
            resume=os.environ.get("WANDB_RESUME", "allow"),  # type: ignore[arg-type]
            reinit="create_new" if self._nested else "default",
            settings=wandb.Settings(**{name: value for name, value in settings.items() if name in known}),
        )

    def _await_orphans(self, info: RunInfo) -> None:
        """W&B's process of a program that was killed may still write and send: what it has sent is the watermark."""
        deadline = time.monotonic() + ORPHAN_S
        for path in find_files(info.root, info.run_id):
            while (busy := is_open(path)) and time.monotonic() < deadline:
                time.sleep(0.05)
            if not busy:
                trim(path)

    def _choose_mode(self) -> tuple[str, str]:
        """The mode to start in, and why, where it is not the one asked for."""
        asked = self._config.mode
        if asked == "offline":
            return "offline", ""
        key, url = credentials()
        if not key:
            if asked == "online":
                raise WandbError(
                    "'mode: online' needs a W&B key, and there is none in WANDB_API_KEY or ~/.netrc; "
                    "run 'wandb login', or use 'mode: auto' or 'mode: offline'"
                )
            return "offline", "no W&B key; 'wandb login' sets one"
        trouble = probe(url, key, PROBE_S[asked])
        if trouble is None:
            return "online", ""
        if trouble in [f"HTTP {code}" for code in REFUSED]:
            trouble += ": it refuses the key; 'wandb login --relogin' sets another"
        if asked == "online":
            raise WandbError(
                f"'mode: online' needs a W&B server that answers; {url}/graphql was asked, for at most "
                f"{PROBE_S[asked]:.0f} s, whose the key is: {trouble}; "
                "use 'mode: auto' or 'mode: offline' to record now and send it later"
            )
        return "offline", f"{url}: {trouble}"

    def _guard_order(self, run: wandb.Run) -> None:
        """Other loggers wait while a row finds its step and is logged: W&B drops a row below its counter."""
        publish = self._publish = getattr(run, "_partial_history_callback", None)
        if publish is None:
            return

        def in_turn(*args: Any, **kwargs: Any) -> None:
            with self._lock:
                self._counter_known = self._ours
                publish(*args, **kwargs)

        run._partial_history_callback = in_turn  # type: ignore[method-assign]

    # -- the thread ----------------------------------------------------------------------------------------------

    def _submit(self, task: Callable[[], None]) -> None:
        self._raise_failed()
        self._tasks.put(task)

    def _raise_failed(self) -> None:
        """What went wrong in the thread is the tracker's to hear, on the next call."""
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception as error:
                self._failed = error
            if self._tasks.empty():
                # In bursts: a thread that wakes at every row takes the interpreter from the training each time.
                self._hurry.wait(GATHER_S)
        self._drained.set()
        if not self._finished.wait(QUIET_S):
            # Said from here, since a program that is ending can start no thread for it.
            logger.info("waiting up to %.0f s for W&B", self._config.finish_timeout)

    def _of_run(self) -> wandb.Run:
        assert self.run is not None
        return self.run

    def _log(self, row: Row) -> None:
        run = self._of_run()
        for key in row.values:
            if key not in self._defined:
                self._define(key)
        values = self._new(row)
        if not values:
            return
        with self._lock:
            # Asking costs more than logging: only after somebody else has logged.
            self._place.take(row.step, values, -1 if self._counter_known else run.step)
            step = self._place.step
            self._ours = True
            try:
                run.log(values, step=step)
            finally:
                self._ours = False

    def _new(self, row: Row) -> dict[str, float | int]:
        """What W&B has not had: of steps that a resumed training takes again it keeps the first pass."""
        if row.step <= self._floor:
            return {}
        values = dict(row.values)
        if self._written:
            values = {key: value for key, value in values.items() if row.step > self._written.get(key, -1)}
            if values.keys() <= AXES:
                return {}
            values.update({key: row.values[key] for key in AXES if key in row.values})
        return values

    def _catch_up(self, earlier: Earlier, info: RunInfo) -> None:
        """W&B gets the rows of earlier passes that it lacks; from then on only what is beyond them."""
        run = self._of_run()
        if not earlier.rows and info.step is not None and not run.offline:
            # The local log stayed behind: what W&B has is known by its last step alone.
            self._floor = run.starting_step - 1
        for row in self._lacking(earlier, info):
            self._log(row)
        self._written = earlier.latest()

    def _lacking(self, earlier: Earlier, info: RunInfo) -> list[Row]:
        """Rows of the local log that W&B lacks: those beyond the last step that it has."""
        run = self._of_run()
        has = run.starting_step - 1 if not run.offline else self._offline_step(info)
        place, lacking = Place(), []
        for row in earlier.rows:
            if any(row.step > self._written.get(key, -1) for key in row.values):
                place.take(row.step, row.values, -1)
                if place.step > has:
                    lacking.append(row)
                self._written.update(dict.fromkeys(row.values, row.step))
        self._written = {}
        return lacking

    def _offline_step(self, info: RunInfo) -> int:
        """The last step in this run's earlier offline files; everything, where they are gone: they were uploaded."""
        files = find_files(info.root, info.run_id, "offline-run")
        mine = Path(self._of_run().dir).parent
        steps = [row["_step"] for path in files if path.parent != mine for row in read_history(path)]
        return max(steps, default=1 << 62 if len(files) < 2 else -1)

    def _update_config(self, values: Mapping[str, Any]) -> None:
        self._of_run().config.update(dict(values), allow_val_change=True)  # type: ignore[no-untyped-call]

    def _define(self, key: str) -> None:
        self._defined.add(key)
        axis = axis_key(key, self._config.epoch_axis)
        self._of_run().define_metric(
            key,
            step_metric=None if key == axis else axis,
            summary="none" if key.startswith(_NO_SUMMARY) else None,
        )


def _keep_out_of_home() -> None:
    """Where WANDB_DIR is set, W&B's cache, staging area and own logs go there too: a cluster's homes are small."""
    folder = os.environ.get("WANDB_DIR")
    if folder:
        for name in ("CACHE", "DATA"):
            os.environ.setdefault(f"WANDB_{name}_DIR", str(Path(folder).absolute() / "wandb" / f".{name.lower()}"))
