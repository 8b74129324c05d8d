"""Promotes checkpoints in a ledger: gives the best an alias, or a link to a registry, which earlier holders lose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trackkit.checkpoints import aliases
from trackkit.checkpoints.ledger import Entry, Ledger
from trackkit.errors import TrackKitError, did_you_mean


class PromotionError(TrackKitError):
    """There is nothing to promote, or the alias can't be given."""


def chosen(entries: Iterable[Entry], which: str = "best") -> list[Entry]:
    """Returns the entry of each collection that a user means.

    Args:
        entries: of one run; those that a server has or may still get count.
        which: `best`, `latest` or `step-N`.

    Raises:
        PromotionError: there is none.
    """
    present = [each for each in entries if each.is_present]
    if which == aliases.BEST:
        found = aliases.best(present)
    else:
        groups = aliases.collections(present).values()
        same = {aliases.LATEST: lambda each: True}.get(which, lambda each: f"step-{each.step}" == which)
        found = [named[-1] for group in groups if (named := list(filter(same, group)))]
    if found:
        return found
    if not present:
        raise PromotionError("the run has no checkpoint that was or can be uploaded; `trackkit checkpoints` says why")
    if which == aliases.BEST:
        raise PromotionError(
            "the run has no best checkpoint: none has a monitored value. Name one: --checkpoint latest"
        )
    known = [aliases.BEST, aliases.LATEST, *(f"step-{each.step}" for each in present)]
    raise PromotionError(f"the run has no checkpoint '{which}'{did_you_mean(which, known)}")


def promote(ledger: Ledger, entries: Sequence[Entry], given: Mapping[str, tuple[str, ...]]) -> list[Entry]:
    """Writes into a ledger that entries have a promotion, and that others of their collections have it no more.

    Args:
        ledger: of the run.
        entries: one of each collection.
        given: what is added to their fields `promoted` and `links`.

    Returns:
        The entries that had it before.
    """
    numbers, names = {each.number for each in entries}, {each.collection for each in entries}
    others = [each for each in ledger.entries if each.number not in numbers]
    shared = [each for each in others if each.collection in names or "links" in given]
    before = [each for each in shared if withdraw(ledger, each, given)]
    for each in entries:
        added = {field: tuple(dict.fromkeys([*getattr(each, field), *values])) for field, values in given.items()}
        ledger.change(each.number, **added)
    return before


def withdraw(ledger: Ledger, entry: Entry, given: Mapping[str, tuple[str, ...]]) -> bool:
    """Takes a promotion from an entry; returns whether it had it."""
    # A link that was made before is made anew if it comes back.
    fields = {**given, "linked": given.get("links", ())}
    left = {
        field: tuple(each for each in getattr(entry, field) if each not in values) for field, values in fields.items()
    }
    return ledger.change(entry.number, **left) != entry
