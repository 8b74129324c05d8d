"""Saves checkpoints through a tracker, as an adapter does, without a framework."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.support.run_info import run_info
from trackkit.callbacks.checkpoints import Checkpoints
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import read_ledger
from trackkit.engine.ranks import Exchange
from trackkit.engine.records import Checkpoint
from trackkit.engine.sink import Sink
from trackkit.engine.tracker import Tracker
from trackkit.local_log import index
from trackkit.local_log.writer import LocalSink
from trackkit.session.resume import read_earlier
from trackkit.settings.config import TrackKitConfig

WAIT_S = 60.0


class Saver:
    """One run that only saves checkpoints, into `<root>/saves`.

    Args:
        root: output folder.
        mode: `online` or `offline` (to W&B), or "" for the local log alone.
        run_id, name: of the run.
        finish_timeout: of W&B, in seconds.
        sinks: in place of W&B.
        options: of the callback.

    Attributes:
        saves: folder of the checkpoints.
        store: of the callback.
    """

    def __init__(
        self,
        root: Path,
        mode: str = "",
        run_id: str = "run",
        name: str = "toy",
        finish_timeout: float = 30.0,
        sinks: list[Sink] | None = None,
        **options: Any,
    ) -> None:
        self.saves = root / "saves"
        self.saves.mkdir(parents=True, exist_ok=True)
        config = {"git/commit": "c0ffee", "trackkit/settings/project": "p"}
        self.info = run_info(root, run_id, name, time.time(), config, framework="lightning")
        if (self.info.folder / "run.json").exists():
            earlier = read_earlier(root, run_id)
            self.info = run_info(root, run_id, name, time.time(), config, earlier=earlier, framework="lightning")
        sinks = list(sinks or [])
        if mode:
            from trackkit.integrations.wandb.sink import WandbSink

            settings = TrackKitConfig(project="p", mode=mode, finish_timeout=finish_timeout)  # type: ignore[arg-type]
            sinks.append(WandbSink(settings))
        callback = Checkpoints(**options)
        self.tracker = Tracker([callback], [LocalSink(), *sinks], Exchange())
        self.tracker.start(self.info)
        assert callback.store is not None
        self.store = callback.store
        index.remember(self.info.folder, run_id, "p", mode or "offline")

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.info.folder

    @property
    def entries(self) -> list[Entry]:
        """The ledger's entries, as its file has them."""
        return read_ledger(self.folder)

    def write(self, name: str, content: bytes) -> Path:
        """Writes a file of `saves` anew."""
        path = self.saves / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        return path

    def save(
        self, step: int, value: float | None = None, content: bytes | None = None, path: Path | str = "", **more: Any
    ) -> Path:
        """Saves a checkpoint of a few bytes, or reports one that is at `path`."""
        path = path or self.write(f"step={step}.ckpt", content or b"weights %d" % step)
        given = {"framework": "lightning", "epoch": step / 10, **more}
        if value is not None:
            given = {"monitor": "val_loss", "goal": "min", **given}
        self.tracker.checkpoint(Checkpoint(os.fspath(path), step, value=value, **given))
        return Path(path)

    def wait_for(self, *states: str, seconds: float = WAIT_S) -> list[Entry]:
        """Waits until all entries are in one of the states; returns them."""
        deadline = time.monotonic() + seconds
        while not all(each.state in states for each in self.store.ledger.entries):
            assert time.monotonic() < deadline, self.store.ledger.entries
            time.sleep(0.02)
        return self.store.ledger.entries

    def close(self, code: int = 0) -> None:
        """Ends the run."""
        self.tracker.end("finished")
        self.tracker.close(code)


def states(entries: list[Entry]) -> dict[int, str]:
    """Returns step to state."""
    return {each.step: each.state for each in entries}
