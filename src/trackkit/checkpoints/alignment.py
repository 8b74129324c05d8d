"""Gives the versions of a server the aliases, notes and links that the ledger asks for, beside those of other runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from logging import WARNING
from typing import Any

from trackkit.checkpoints import aliases
from trackkit.checkpoints.entry import Entry, State, parse_line
from trackkit.checkpoints.ledger import Ledger
from trackkit.checkpoints.naming import is_ours
from trackkit.checkpoints.uploads import UploadError, Uploads, Version
from trackkit.notices import say_once

COMMITTED: frozenset[State] = frozenset({"committed"})
_MOVING = (aliases.LATEST, aliases.BEST, aliases.WAS_BEST)
_SHOWN = ("step", "epoch", "metric", "value", "goal", "was", "hub_url")


@dataclass(frozen=True, slots=True)
class Move:
    """A promotion that the server has now.

    Attributes:
        what: the alias, or `registry collection:alias`.
        now: the version that has it, `collection:v7`.
        before: the one that had it; "" if none had.
    """

    what: str
    now: str
    before: str


def align(ledger: Ledger, uploads: Uploads, versions: Mapping[int, Version]) -> tuple[set[int], list[Move]]:
    """Sets the aliases of what is committed. Of a collection that runs share, all versions are compared.

    Args:
        ledger: of the run.
        uploads: the server.
        versions: number of an entry to its version, as the server has it.

    Returns:
        The numbers of the entries that other aliases than this run's protect, and the promotions that have moved.
    """
    protected: set[int] = set()
    moves: list[Move] = []
    for collection, own in aliases.collections(_committed(ledger)).items():
        own = [_without_moved(ledger, each, versions.get(each.number)) for each in own]
        others: Sequence[Entry] = ()
        if not _is_alone(own, versions, [each.version for each in ledger.entries if each.collection == collection]):
            others = uploads.others(collection, [each.digest for each in own])
        names = wanted_beside(own, others)
        _set_aliases([*own, *others], names, versions, uploads)
        taken = {alias for want in names for alias in want}
        for entry, want in zip(own, names, strict=False):
            if (version := versions.get(entry.number)) is not None:
                asked = {alias for alias in want if alias in entry.promoted and alias not in version.aliases}
                foreign = [alias for alias in version.aliases if not is_ours(alias) and alias not in taken]
                ledger.change(entry.number, aliases=(*(alias for alias in want if alias not in asked), *foreign))
                holders = [*own, *others]
                moves += [move for alias in asked for move in _move(ledger, uploads, entry, alias, holders, versions)]
                if foreign or any(alias in _MOVING for alias in want):
                    protected.add(entry.number)
    return protected, moves


def link(ledger: Ledger, uploads: Uploads) -> list[Move]:
    """Links what is committed to the registries that the ledger asks for; returns the links made.

    One that is refused is left for the next time.
    """
    moves = []
    for entry in _committed(ledger):
        for each in entry.links:
            if each not in ledger[entry.number].linked:
                target, _, alias = each.partition(":")
                try:
                    before = uploads.link(entry, target, alias)
                except UploadError as error:
                    say_once("W&B does not link '%s' to '%s': %s", entry.version, target, error, level=WARNING)
                    continue
                ledger.change(entry.number, linked=(*ledger[entry.number].linked, each))
                moves.append(Move(each, entry.version, before))
    return moves


def wanted_beside(
    own: Sequence[Entry], others: Sequence[Entry], states: frozenset[State] = COMMITTED
) -> list[tuple[str, ...]]:
    """Returns the aliases of a run's entries and of the other versions of their collection, in this order.

    By the time of saving, whichever run it was. If the runs monitor different metrics, the newest save's counts.
    """
    # A clock that was set back does not change the order within a run.
    times = [*accumulate((each.time for each in own), max), *(each.time for each in others)]
    pool = [*own, *others]
    order = sorted(range(len(pool)), key=times.__getitem__)
    found = aliases.wanted((replace(pool[at], number=n) for n, at in enumerate(order, 1)), states)
    metrics = {(each.metric, each.goal) for each in pool if aliases.has_value(each)}
    if others and len(metrics) > 1:
        say_once(
            "The runs of the collection '%s' monitor different metrics (%s), which can't be compared: `best` is the "
            "best of the metric that was saved last.",
            pool[0].collection,
            ", ".join(f"{metric} ({goal})" for metric, goal in sorted(metrics)),
        )
    numbers = {at: n for n, at in enumerate(order, 1)}
    return [found.get(numbers[at], ()) for at in range(len(pool))]


def entry_of_version(metadata: Mapping[str, Any], saved: float, **fields: Any) -> Entry:
    """Returns a version on a server as an entry without a number.

    Args:
        metadata: of the version; what can't be read is left out.
        saved: Unix time in seconds, where the metadata have none.
        fields: of the entry.
    """
    shown = {key: metadata[key] for key in _SHOWN if key in metadata}
    if isinstance(files := metadata.get("files"), Mapping):
        shown["files"] = [{"name": name, "size": size} for name, size in files.items()]
    found = parse_line(json.dumps({**shown, "time": metadata.get("saved"), "number": 1, "path": ""}))
    assert found is not None
    return replace(found, number=0, time=found.time or saved, state="committed", **fields)


def moved(alias: str, to: str) -> str:
    """Returns the note on the version that an alias has left."""
    return f"{alias} until {time.strftime('%Y-%m-%d')}, then {to}"


def _committed(ledger: Ledger) -> list[Entry]:
    return [each for each in ledger.present if each.state == "committed"]


def _without_moved(ledger: Ledger, entry: Entry, version: Version | None) -> Entry:
    """Drops the promotions that somebody has moved away since they were set: they are not taken back."""
    if version is None:
        return entry
    gone = {alias for alias in entry.promoted if alias in entry.aliases and alias not in version.aliases}
    if not gone:
        return entry
    promoted = tuple(alias for alias in entry.promoted if alias not in gone)
    return ledger.change(entry.number, promoted=promoted, was=tuple(dict.fromkeys((*entry.was, *version.was))))


def _is_alone(own: Sequence[Entry], versions: Mapping[int, Version], named: Iterable[str]) -> bool:
    """Returns whether the collection needs no look: all its versions are this run's, with the aliases they should have.

    Args:
        own: committed entries of one collection.
        versions: as they are on the server.
        named: the names of all versions that the run ever had in it, `collection:v3`; "" for none.
    """
    numbers = {name.rpartition(":v")[2] for name in named if name}
    names = aliases.wanted(own, COMMITTED)
    return numbers == set(map(str, range(len(numbers)))) and all(
        {alias for alias in version.aliases if is_ours(alias) or alias in entry.promoted} == set(names[entry.number])
        for entry in own
        if (version := versions.get(entry.number)) is not None
    )


def _there(entry: Entry, versions: Mapping[int, Version]) -> tuple[str, ...] | None:
    """Returns the aliases that a version has on the server; None if it is not there."""
    if not entry.number:
        return entry.aliases
    version = versions.get(entry.number)
    return version.aliases if version is not None else None


def _move(
    ledger: Ledger,
    uploads: Uploads,
    entry: Entry,
    alias: str,
    pool: Sequence[Entry],
    versions: Mapping[int, Version],
) -> list[Move]:
    """Moves a promotion to an entry's version; one that is refused, such as a protected alias, stops nothing else."""
    try:
        uploads.set_aliases(ledger[entry.number], [alias])
    except UploadError as error:
        say_once("W&B does not give the alias '%s' to '%s': %s", alias, entry.version, error, level=WARNING)
        return []
    ledger.change(entry.number, aliases=(*ledger[entry.number].aliases, alias))
    holders = [each for each in pool if alias in (_there(each, versions) or ())]
    for holder in holders:
        note_move(uploads, holder, alias, entry.version)
        if holder.number:
            ledger.change(holder.number, was=noted(holder, alias, entry.version))
    return [Move(alias, entry.version, holders[0].version if holders else "")]


def note_move(uploads: Uploads, holder: Entry, alias: str, to: str) -> None:
    """Notes in the metadata of a version that an alias has left it."""
    uploads.set_aliases(replace(holder, was=noted(holder, alias, to)), ())


def noted(holder: Entry, alias: str, to: str) -> tuple[str, ...]:
    """Returns the notes of a version that an alias has left, each once."""
    return tuple(dict.fromkeys((*holder.was, moved(alias, to))))


def _set_aliases(
    pool: Sequence[Entry], names: Sequence[tuple[str, ...]], versions: Mapping[int, Version], uploads: Uploads
) -> None:
    taken = {alias for want in names for alias in want}
    for entry, want in zip(pool, names, strict=True):
        if (has := _there(entry, versions)) is None:
            continue
        # Of another run's versions, the aliases that move are set, and no others.
        add = [alias for alias in want if alias not in has and (is_ours(alias) if entry.number else alias in _MOVING)]
        stale = [
            alias for alias in has if alias not in taken and (is_ours(alias) if entry.number else alias in _MOVING)
        ]
        version = versions.get(entry.number)
        news = version is not None and (version.hub_url != entry.hub_url or bool({*entry.was} - {*version.was}))
        if add or stale or news:
            uploads.set_aliases(entry, add, stale)
