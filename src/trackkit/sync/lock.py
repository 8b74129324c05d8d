"""Lets one sync at a time work on a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from trackkit.local_log import index


class Busy(Exception):
    """Another process is syncing the run."""


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Holds the lock of a run: a file in its folder or, if that is read-only, among the user's own.

    Args:
        home: the run's folder.

    Raises:
        Busy: another process holds it.
        OSError: there is no place for a lock.
    """
    name = f"{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:24]}.lock"
    places = [home / ".sync.lock", *(folder / "trackkit-sync" / name for folder in index.state_folders())]
    for place in places:
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(place, timeout=0)
            lock.acquire()
        except Timeout:
            raise Busy from None
        except NotImplementedError:
            # A file system without locks.
            break
        except OSError:
            continue
        try:
            yield
        finally:
            lock.release()
        return
    else:
        raise OSError(f"No lock can be made in '{home}' or in '{places[-1].parent}'. Make one of them writable.")
    yield
