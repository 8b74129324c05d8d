"""Which checkpoints may be deleted: computed from the ledger alone, so never one of another run."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from trackkit.checkpoints import aliases
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.naming import is_step

DAY_S = 86_400.0


def expendable(
    entries: Iterable[Entry],
    keep: int | None,
    keep_days: float | None = None,
    now: float = 0.0,
    held: Collection[int] = (),
) -> list[Entry]:
    """Returns the present entries that may be deleted, oldest first.

    Kept are, of each collection, the newest `keep` and, with `keep_days`, those of the last days as well; whatever has
    an alias other than `step-N`; whatever was used, promoted or linked; and what is `held`.

    Args:
        entries: of one run.
        keep: how many; None for all.
        keep_days: days.
        now: Unix time in seconds.
        held: numbers of the entries that a run has used, or whose versions have aliases that TrackKit did not set.
    """
    entries = list(entries)
    if keep is None:
        return []
    names = aliases.wanted(entries)
    found: list[Entry] = []
    for group in aliases.collections(each for each in entries if each.is_present).values():
        for entry in group[: max(0, len(group) - keep)]:
            named = any(not is_step(alias) for alias in names[entry.number])
            recent = keep_days is not None and now - entry.time < keep_days * DAY_S
            if not (named or recent or entry.used or entry.promoted or entry.links or entry.number in held):
                found.append(entry)
    return sorted(found, key=lambda each: each.number)
