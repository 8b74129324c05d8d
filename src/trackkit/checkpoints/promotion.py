"""Promotes checkpoints in a ledger: gives the best an alias, or a link to a registry, which earlier holders lose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trackkit.checkpoints import aliases
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import Ledger
from trackkit.errors import TrackKitError, did_you_mean


class PromotionError(TrackKitError):
    """There is nothing to promote, or the alias can't be given."""


def chosen(entries: Iterable[Entry], which: str = "best") -> list[Entry]:
    """Returns the entry of each collection that a user means.

    Args:
        entries: of one run; those that a server has or may still get count.
        which: `best`, `latest` or `step-N`; of one collection, `collection:best`.

    Raises:
        PromotionError: there is none.
    """
    entries = list(entries)
    collection, _, which = which.rpartition(":")
    if collection and (known := {each.collection for each in entries}) and collection not in known:
        raise PromotionError(f"the run has no collection '{collection}'{did_you_mean(collection, known)}")
    present = [each for each in entries if each.is_present and collection in ("", each.collection)]
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
    names = [aliases.BEST, aliases.LATEST, *(f"step-{each.step}" for each in present)]
    raise PromotionError(f"the run has no checkpoint '{which}'{did_you_mean(which, names)}")


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
        ledger.change(each.number, **added, **_undone(each, given))
    return before


def withdraw(ledger: Ledger, entry: Entry, given: Mapping[str, tuple[str, ...]]) -> bool:
    """Takes a promotion from an entry; returns whether it had it."""
    left = {field: _without(getattr(entry, field), values) for field, values in given.items()}
    return ledger.change(entry.number, **left, **_undone(entry, given)) != entry


def _undone(entry: Entry, given: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Returns the fields that say what the server has, without a promotion: if it was there before, it is made anew."""
    links, promoted = given.get("links", ()), given.get("promoted", ())
    return {"linked": _without(entry.linked, links), "aliases": _without(entry.aliases, promoted)}


def _without(values: Iterable[str], gone: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in values if each not in set(gone))
