"""Keeps and uploads the checkpoints that the framework saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.checkpoints.reruns import separate
from trackkit.checkpoints.rules import Rules
from trackkit.checkpoints.store import Store
from trackkit.engine import ranks
from trackkit.engine.callback import Callback

if TYPE_CHECKING:
    from trackkit.engine.records import Checkpoint
    from trackkit.engine.run_info import RunInfo


class Checkpoints(Callback):
    """Records every checkpoint that the framework saves, and uploads the best and the latest as versions.

    Nothing is copied where a hard link can be made, and nothing is hashed in the training thread.

    Args:
        upload: `best_and_latest` (what is superseded before its turn is skipped), `best` (by the monitored metric),
            `all` or `none`.
        max_GB: larger checkpoints are recorded and not uploaded, in 1e9 bytes.
        max_total_GB: what a run uploads at most, in 1e9 bytes.
        keep: how many of the newest are kept, beside `best`, `latest`, `was-best`, promoted and used ones.
        keep_days: those of so many last days are kept as well.
        weights_only: whether to leave out optimizer files of checkpoints that are folders.
        promote: alias that the best gets at the end of the run, or `{registry: ..., alias: ...}` to link it to.
        name: of the collection, a template of {name}, {run_id}, {group} and {series}. Default: `model-{name}`.

    Raises:
        ValueError: an argument of the wrong type or value.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = (
        *("upload", "max_GB", "max_total_GB", "keep", "keep_days", "weights_only", "promote", "name"),
    )

    def __init__(
        self,
        upload: str = "best_and_latest",
        max_GB: float = 5.0,
        max_total_GB: float = 20.0,
        keep: int = 3,
        keep_days: float | None = None,
        weights_only: bool = False,
        promote: str | Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        self.rules = Rules(upload, max_GB, max_total_GB, keep, keep_days, weights_only, promote, name)
        self._uploads: Any = None
        self.store: Store | None = None

    def connect(self, uploads: Sequence[Any]) -> None:
        self._uploads = next(iter(uploads), None)

    def start(self, info: RunInfo) -> None:
        writes = ranks.current().writes
        if writes and info.start.is_fit and info.earlier is None:
            separate(info.start.output, info.start.framework)
        if self.store is None and writes:
            group = info.config.get("trackkit/settings/group") or info.start.group
            names = {"name": info.name, "run_id": info.run_id, "group": str(group or info.name)}
            commit = str(info.config.get("git/commit", ""))
            self.store = Store(info.folder, self.rules, names, commit, self._uploads)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        if self.store is not None:
            self.store.add(checkpoint)

    def pushed(self, url: str, path: str) -> None:
        if self.store is not None:
            self.store.pushed(url, path)

    def used(self, parent: Any) -> None:
        if self.store is not None:
            self.store.used(parent)

    def closing(self) -> None:
        if self.store is not None:
            self.store.closing()

    def closed(self) -> None:
        if self.store is not None:
            self.store.closed()
