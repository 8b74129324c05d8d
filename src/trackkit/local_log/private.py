"""Makes folders and files for their owner alone, and takes a temporary folder only if it is this user's."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Makes a folder and the one that it is in, with mode 0700, less the umask; one that exists keeps its mode."""
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)


def opener(path: str | os.PathLike[str], flags: int) -> int:
    """Opens a file for `open(..., opener=opener)`; a new one has mode 0600, less the umask."""
    return os.open(path, flags, 0o600)


def temporary_folder() -> Path:
    """Returns where this user's temporary folder is, whether or not it exists."""
    return Path(tempfile.gettempdir()) / f"trackkit-{os.getuid()}"


def is_private(folder: Path) -> bool:
    """Returns whether a path is a folder (not a link) that belongs to this user and is closed to others.

    A folder of this user that others can only read is closed first.
    """
    try:
        state = folder.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o022:
            return False
        if state.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError:
        return False
    return True


def make_temporary_folder() -> Path:
    """Returns this user's temporary folder, or a new one with a random name if another user has taken its name.

    Raises:
        OSError: no folder can be made.
    """
    folder = temporary_folder()
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not is_private(folder):
            return Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    return folder
