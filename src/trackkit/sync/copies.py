"""Several folders of one run: copies of a folder, one of which went on, and pieces that were recorded apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trackkit.integrations.wandb.files import read_run_file
from trackkit.local_log.reader import read_folder
from trackkit.sync.target import Target
from trackkit.sync.verdict import Report


def by_run(targets: Iterable[Target], entity: str) -> list[list[Target]]:
    """The targets, those of one run on the server together.

    Args:
        targets: what is to be synced.
        entity: where a run goes that names none.
    """
    same_id: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        same_id[target.run_id].append(target)
    groups: list[list[Target]] = []
    for found in same_id.values():
        same_path: dict[str, list[Target]] = defaultdict(list)
        for target in found:
            same_path[_path(target, entity) if len(found) > 1 else ""].append(target)
        groups += same_path.values()
    return groups


def settle(group: Sequence[Target]) -> tuple[list[Target], list[Report]]:
    """Which folders of one run are to be synced, one after another, and a report on each of the others.

    Copies of a folder begin with the same row: the one that went on furthest has what the others have, and how the run
    ended. Pieces have no row in common, and go to the server in the order of time.
    """
    if len(group) == 1:
        return list(group), []
    alike: dict[float, list[_Folder]] = defaultdict(list)
    for folder in map(_read, group):
        alike[folder.began].append(folder)
    empty = alike.pop(0.0, []) if len(alike) > 1 else []
    current, reports = [], []
    for _, copies in sorted(alike.items()):
        furthest = max(copies, key=lambda folder: folder.reach)
        current.append(furthest.target)
        reports += [_superseded(each, furthest) for each in copies if each is not furthest]
    return current, reports + [_superseded(each, furthest) for each in empty]


def _path(target: Target, entity: str) -> str:
    try:
        return target.path(entity)
    except OSError:
        # A folder that can't be read goes by itself, and its report says why.
        return str(target.root)


@dataclass(frozen=True)
class _Folder:
    """A folder of a run.

    Attributes:
        target: the run there.
        rows: Unix time in seconds, and number within it, of each row.
        reach: what a copy that went on has more of: whether it is running, passes, rows, files.
    """

    target: Target
    rows: frozenset[tuple[float, int]]
    reach: tuple[bool, int, int, int]

    @property
    def began(self) -> float:
        """When its first row was made; 0.0 without rows."""
        return min(self.rows, default=(0.0, 0))[0]


def _read(target: Target) -> _Folder:
    files = target.fragments
    passes, times = len(files), []
    if target.folder is not None:
        history = read_folder(target.folder).history
        passes = max((int(row["_pass"]) for row in history), default=0)
        times = [float(row["_time"]) for row in history]
    times = times or [float(row.get("_timestamp", 0.0)) for path in files for row in read_run_file(path).rows]
    seen: dict[float, int] = defaultdict(int)
    rows = []
    for time in times:
        seen[time] += 1
        rows.append((time, seen[time]))
    return _Folder(target, frozenset(rows), (target.running, passes, len(rows), len(files)))


def _superseded(folder: _Folder, by: _Folder) -> Report:
    only_here = len(folder.rows - by.rows)
    place = by.target.folder or by.target.root
    reason = f"a copy of it went on in '{place}', and is what the server gets"
    if only_here:
        reason += f"; {only_here} rows are in this one only, and stay here"
    return Report(folder.target, "superseded", reason, rows=len(folder.rows))
