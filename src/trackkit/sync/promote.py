"""Promotes a run's checkpoint: in its ledger, and on the server at once or else by the next sync."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from filelock import Timeout

from trackkit.checkpoints.alignment import Move, note_move, noted
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import LEDGER, Ledger, read_ledger
from trackkit.checkpoints.naming import check_alias
from trackkit.checkpoints.promotion import PromotionError, chosen, promote, withdraw
from trackkit.checkpoints.rules import Rules
from trackkit.checkpoints.server_side import ServerSide
from trackkit.checkpoints.staging import Staging
from trackkit.checkpoints.uploads import UploadError
from trackkit.integrations.wandb.artifacts import Artifacts
from trackkit.local_log.places import is_server_path, known_runs, siblings
from trackkit.sync.ledger import locked
from trackkit.sync.server_run import Server, ServerError
from trackkit.sync.targets import Target, find_targets


@dataclass(frozen=True)
class Promotion:
    """What is asked for.

    Attributes:
        alias: that the checkpoint gets.
        registry: collection of a registry that it is linked to, with the alias there; "" for its own collection.
        which: checkpoint: `best`, `latest` or `step-N`; of one collection, `collection:best`.
    """

    alias: str
    registry: str = ""
    which: str = "best"

    @property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """What is added to the fields of an entry."""
        return {"links": (self.what,)} if self.registry else {"promoted": (self.alias,)}

    @property
    def what(self) -> str:
        """The alias, with the registry's collection."""
        return f"{self.registry}:{self.alias}" if self.registry else self.alias

    def chosen(self, entries: Sequence[Entry]) -> list[Entry]:
        """Returns the entries it is for: one of each collection, but a link has one.

        Raises:
            PromotionError: there is none, or there are several to link.
        """
        found = chosen(entries, self.which)
        if self.registry and len(found) > 1:
            names = " or ".join(f"--checkpoint {each.collection}:{self.which}" for each in found)
            raise PromotionError(f"the run has several collections: give {names}")
        return found

    def is_done(self, entry: Entry) -> bool:
        """Returns whether an entry has it on the server."""
        return self.what in (entry.linked if self.registry else entry.aliases) and entry.state == "committed"


def promote_run(word: str, asked: Promotion) -> Iterator[str]:
    """Promotes a checkpoint of a run, and yields what happened, line by line.

    Args:
        word: a run as `trackkit show` takes it.
        asked: what is asked for.

    Raises:
        TrackKitError: the alias, the run or the checkpoint can't be used, or a run without a folder here has no server.
    """
    try:
        check_alias(asked.alias)
    except ValueError as error:
        raise PromotionError(str(error)) from None
    if is_server_path(word, parts=3):
        yield from _on_server(Server(), word, asked)
        return
    found = find_targets([word])
    if len(found) > 1:
        names = ", ".join(f"'{each.folder or each.root}'" for each in found[:5])
        raise PromotionError(f"'{word}' has {len(found)} runs ({names}): give the folder of one")
    target = found[0]
    if target.folder is None or target.is_running:
        # Its own process writes the ledger.
        server = Server()
        path = target.path(server.entity)
        if target.is_running and not server.has(path):
            raise PromotionError(f"the run is still being written, and {server.url} does not have it: wait for its end")
        yield from _on_server(server, path, asked)
    else:
        try:
            with locked(target):
                yield from _here(target, asked)
        except Timeout:
            raise PromotionError("another process is syncing the run; wait for that to end") from None


def _here(target: Target, asked: Promotion) -> Iterator[str]:
    """Promotes in the ledger, and on the server if it has the version."""
    assert target.folder is not None
    ledger = Ledger(target.folder)
    entries = asked.chosen(ledger.entries)
    before = [_named(each) for each in promote(ledger, entries, asked.fields)]
    if not ledger.is_written:
        raise PromotionError(f"cannot write '{target.folder / LEDGER}': make it writable")
    before += _withdraw_elsewhere(target, entries, asked)
    trouble, moves = "the checkpoint is not uploaded yet", list[Move]()
    if any(each.state == "committed" for each in entries):
        trouble, moves = _catch_up(target, ledger)
    entries = [ledger[each.number] for each in entries]
    ledger.close()
    yield from (_line(asked, each) for each in entries)
    yield from dict.fromkeys(f"before: {name}" for name in [*(each.before for each in moves if each.before), *before])
    if not all(map(asked.is_done, entries)):
        yield f"This waits for `trackkit sync {target.folder}`: {trouble}."


def _catch_up(target: Target, ledger: Ledger) -> tuple[str, list[Move]]:
    """Makes the server what the ledger says; returns why it may not be, and what has moved."""
    assert target.folder is not None
    try:
        uploads = Artifacts(target.path(Server().entity))
    except ServerError as error:
        return str(error).rstrip("."), []
    side = ServerSide(ledger, Staging(target.folder), Rules.recorded(ledger.options), uploads, lambda: None)
    side.catch_up()
    return "W&B refused it, or did not answer", side.moves


def _withdraw_elsewhere(target: Target, entries: Sequence[Entry], asked: Promotion) -> list[str]:
    """Takes the promotion from other runs that are recorded here; returns the versions that had it."""
    assert target.folder is not None
    found = {
        each.folder.resolve(): each for each in [*known_runs(), *siblings(target.folder.absolute())] if each.folder
    }
    found.pop(target.folder.resolve(), None)
    project, before = target.path("").rpartition("/")[0], []
    for folder, run in found.items():
        held = [each for each in read_ledger(folder) if _has(each, entries, asked)]
        other = Target(run.run_id, run.root, folder)
        if not held or other.path("").rpartition("/")[0] != project or other.is_running:
            continue
        with suppress(Timeout, OSError), locked(other):
            ledger = Ledger(folder)
            for entry in held:
                was = asked.is_done(entry)
                withdraw(ledger, entry, asked.fields)
                if was:
                    to = next((each for each in entries if each.collection == entry.collection), entries[0])
                    ledger.change(entry.number, was=noted(entry, asked.what, _named(to)))
                    before.append(_named(entry))
            ledger.close()
    return before


def _has(entry: Entry, entries: Sequence[Entry], asked: Promotion) -> bool:
    """Returns whether an entry of another run has the promotion that others are to have."""
    shared = any(each.collection == entry.collection for each in entries)
    return asked.what in entry.links if asked.registry else shared and asked.alias in (*entry.promoted, *entry.aliases)


def _on_server(server: Server, path: str, asked: Promotion) -> Iterator[str]:
    """Promotes a version of a run that has no ledger here, or whose ledger is being written."""
    if not server.has(path):
        raise PromotionError(f"'{path}' is neither a folder nor a run on {server.url}. Give one of them.")
    uploads = Artifacts(path)
    try:
        for entry in asked.chosen(uploads.own()):
            if asked.registry:
                before = [uploads.link(entry, asked.registry, asked.alias)]
            else:
                found = uploads.others(entry.collection, [entry.digest])
                holders = [each for each in found if asked.alias in each.aliases]
                for holder in holders:
                    note_move(uploads, holder, asked.alias, entry.version)
                uploads.set_aliases(entry, [asked.alias])
                before = [each.version for each in holders]
            yield _line(asked, entry)
            yield from (f"before: {name}" for name in before if name)
    except UploadError as error:
        raise PromotionError(f"W&B refused it: {error}") from error


def _line(asked: Promotion, entry: Entry) -> str:
    step = f"step {entry.step}" if entry.version else ""
    value = f"{entry.metric} {entry.value:.5g}" if entry.value is not None else ""
    about = ", ".join(filter(None, (step, value)))
    return f"{asked.what}: {_named(entry)}" + (f" ({about})" if about else "")


def _named(entry: Entry) -> str:
    return entry.version or f"{entry.collection} step-{entry.step}"
