"""Syncs the folders of one run, one after another. What goes wrong with one is in its report: the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from trackkit.errors import TrackKitError
from trackkit.notices import logger
from trackkit.sync.copies import settle
from trackkit.sync.job import Job
from trackkit.sync.ledger import Ledger
from trackkit.sync.server_run import Server
from trackkit.sync.target import Target
from trackkit.sync.verdict import Report

Say = Callable[[str], None]


def sync_group(
    group: Sequence[Target],
    server: Server,
    asked: bool,
    watch: bool,
    telling: Callable[[Target], AbstractContextManager[Say]],
) -> list[Report]:
    """Syncs one run.

    Args:
        group: its folders.
        server: where to.
        asked: whether the user named it. If not, what was verified before is passed over.
        watch: whether to follow it while it is being written.
        telling: gives what takes a line on what is being done with a folder.
    """
    try:
        current, superseded = settle(group)
    except Exception as error:
        return [_failed(target, error) for target in group]
    reports = []
    for target in current:
        if asked or not is_verified(target, server):
            with telling(target) as say:
                reports.append(_sync(target, server, asked, watch, say))
    return reports + superseded if reports else []


def is_verified(target: Target, server: Server) -> bool:
    """Whether the last sync found all of a folder on the server, and nothing has changed since."""
    try:
        return bool(Ledger(target, server.url).verified())
    except OSError:
        # What can't be read is reported by its sync.
        return False


def _sync(target: Target, server: Server, asked: bool, watch: bool, say: Say) -> Report:
    try:
        ledger = Ledger(target, server.url)
        found = ledger.verified() if asked else {}
        if found and not server.has(found["path"]):
            say("the server has it no more: it is sent again")
            ledger.forget()
        return Job(target, server, say).sync(watch)
    except Exception as error:
        return _failed(target, error)


def _failed(target: Target, error: Exception) -> Report:
    if isinstance(error, TrackKitError):
        return Report(target, "failed", str(error))
    logger.debug("the sync of '%s' failed", target.run_id, exc_info=error)
    return Report(target, "failed", f"{type(error).__name__}: {error}")
