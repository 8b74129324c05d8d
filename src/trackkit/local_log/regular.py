"""Guards readers of run folders, which may come from somebody else: no links out of them, no pipes, any bytes."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from trackkit.errors import TrackKitError


class ReadError(TrackKitError):
    """There is no such run, or more than one, or it can't be read."""


class UnsafeFile(ReadError, OSError):
    """A file of a run is not a regular file inside of its folder. Tolerant readers skip it as one they can't open."""


def regular(path: Path, folder: Path | None = None) -> Path:
    """Returns where a file of a run really lies; everything that reads such a file opens what this returns.

    Args:
        path: of the file, which may be missing.
        folder: the folder that it must be in; by default the one that the path names.

    Raises:
        UnsafeFile: a link leads out of the folder, or the file is a pipe, a device or a folder.
    """
    with suppress(OSError):
        if folder is None and stat.S_ISREG(os.lstat(path).st_mode):
            return path
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(folder or path.parent)):
        raise UnsafeFile(f"'{path}' is a link out of its folder, and is not followed. Replace it with the file itself.")
    if real.exists() and not real.is_file():
        raise UnsafeFile(f"'{path}' is not a regular file. Remove it.")
    return real


def parse_json(text: str | bytes) -> Any:
    """Parses JSON.

    Raises:
        ValueError: it is damaged, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
