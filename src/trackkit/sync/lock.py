"""One sync of a run at a time: a lock in the run's folder, and one of the user's for the run on its server.

The first keeps out other users of the folder; the second, of copies of the folder, all but one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from trackkit.local_log import index


@contextmanager
def locked(home: Path, url: str, path: str) -> Iterator[Sequence[int]]:
    """Holds the locks of a run; gives their file descriptors, for the processes that upload it.

    A folder that takes no file has no lock: the user's own does then.

    Args:
        home: the run's folder.
        url: of the server.
        path: of the run there, `entity/project/run_id`.

    Raises:
        BlockingIOError: another process has one of them.
        OSError: there is no place for a lock.
    """
    name = f"{hashlib.sha256(f'{url} {path}'.encode()).hexdigest()[:24]}.lock"
    own = [folder / "trackkit-sync" / name for folder in index.state_folders()]
    held: dict[Path, int] = {}
    try:
        for places in ([home / ".sync.lock"], own):
            held.update(_first(places))
        if not held:
            raise OSError(f"a lock must lie in '{home}' or in '{own[-1].parent}', and neither takes a file")
        yield list(held.values())
    finally:
        for place, file in held.items():
            if place in own:
                # While it is held: whoever has opened it meanwhile sees that it is gone, and begins anew.
                with suppress(OSError):
                    place.unlink()
            os.close(file)


def _first(places: Sequence[Path]) -> dict[Path, int]:
    """The first of these locks that can be made, if any."""
    for place in places:
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return {place: _take(place)}
        except BlockingIOError:
            raise
        except OSError:
            continue
    return {}


def _take(place: Path) -> int:
    while True:
        file = os.open(place, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise
        except OSError:
            # A file system without locks refuses nobody.
            return file
        if place.exists() and os.path.samestat(os.fstat(file), place.stat()):
            return file
        os.close(file)
