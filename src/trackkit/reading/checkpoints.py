"""The checkpoints of a recorded run, as a table."""

from __future__ import annotations

import os
from pathlib import Path

from trackkit.checkpoints.aliases import wanted
from trackkit.checkpoints.ledger import Entry, read_ledger
from trackkit.checkpoints.staging import Staging
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError

_UNITS = ("B", "kB", "MB", "GB", "TB")


def checkpoint_table(run: RecordedRun) -> tuple[dict[str, list[str]], str]:
    """Returns the columns of a table with one line per checkpoint, and a sentence with the totals.

    Raises:
        ReadError: the run is on a server alone.
    """
    if run.folder is None:
        raise ReadError(f"the run '{run.run_id}' has no folder here, and its checkpoints are listed there alone")
    entries, staging = read_ledger(run.folder), Staging(run.folder)
    names = wanted(entries)
    columns: dict[str, list[str]] = {
        "step": [str(each.step) for each in entries],
        "epoch": ["" if each.epoch is None else f"{each.epoch:.4g}" for each in entries],
        "value": ["" if each.value is None else f"{each.value:.5g}" for each in entries],
        "size": [to_size(each.size) for each in entries],
        "kept": [_kept(each, staging) for each in entries],
        "state": [each.state for each in entries],
        "version": [each.version for each in entries],
        # Of what is committed, those that it has: another run of the collection may have the best, a promotion waits.
        "aliases": [
            ", ".join(each.aliases if each.state == "committed" else names.get(each.number, ())) for each in entries
        ],
        "reason": [each.reason for each in entries],
    }
    committed = [each for each in entries if each.state == "committed"]
    # Two saves of the same content are one version.
    stored = {(each.collection, each.digest): each.size for each in committed}
    own = _own_bytes(staging.home)
    return columns, (
        f"{len(entries)} saved, {len(stored)} versions in W&B ({to_size(sum(stored.values()))}); "
        f"staging here: {to_size(own)} that nothing else has."
    )


def to_size(count: float) -> str:
    """Returns a number of bytes as text, in units of 1,000."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {_UNITS[-1]}"


def _kept(entry: Entry, staging: Staging) -> str:
    """Returns where the files of an entry are on this machine."""
    places = {"framework": os.path.exists(entry.path), "staging": staging.folder(entry.number).is_dir()}
    return "+".join(name for name, there in places.items() if there)


def _own_bytes(folder: Path) -> int:
    """Returns the bytes of the files below a folder that have no other hard link."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(each.st_size for each in found if each.st_nlink == 1)
