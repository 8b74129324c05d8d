"""Builds the `RunInfo` of a run that no framework trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackkit.engine.run_info import History, RunInfo, Start
from trackkit.local_log.places import backend_folder, run_folder


def run_info(
    root: Path,
    run_id: str = "run",
    name: str = "",
    started: float = 0.0,
    config: Mapping[str, Any] | None = None,
    world_size: int = 1,
    earlier: History | None = None,
    **start: Any,
) -> RunInfo:
    """Returns a run in `root`; `start` are fields of `Start`."""
    adapter = Start(**{"framework": "none", "package": "none", "output": root, "phase": "fit", **start})
    folder = run_folder(root, run_id)
    backends = backend_folder(folder, in_output=False)
    return RunInfo(run_id, name or run_id, root, folder, backends, started, adapter, config or {}, world_size, earlier)
