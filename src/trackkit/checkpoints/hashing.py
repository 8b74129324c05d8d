"""Hashes files as W&B's manifests do: MD5 of each file in base64, and of the list of all in hexadecimal."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from trackkit.checkpoints.entry import Entry

# Larger than a page cache's read-ahead, small enough to stop soon.
_BLOCK = 1 << 22
_HEAD = b"wandb-artifact-manifest-v1\n"


class Stopped(Exception):
    """Hashing was stopped before its end."""


def hashed(entry: Entry, folder: Path, stopped: Callable[[], bool] = lambda: False) -> Entry:
    """Returns an entry with the MD5 of its files, and its digest. Takes about 2 s for a GB.

    Args:
        entry: whose files are in `folder`; without files, its URL is hashed.
        folder: of the staged files.
        stopped: asked at every block.

    Raises:
        OSError: a file can't be read.
        Stopped: `stopped` returned true.
    """
    if entry.is_remote:
        return replace(entry, digest=digest([(reference_name(entry.path), entry.path)]))
    files = tuple(replace(file, md5=md5(folder / file.name, stopped)) for file in entry.files)
    return replace(entry, files=files, digest=digest((file.name, file.md5) for file in files))


def md5(path: Path, stopped: Callable[[], bool] = lambda: False) -> str:
    """Returns a file's MD5 in base64.

    Raises:
        OSError: it can't be read.
        Stopped: `stopped` returned true.
    """
    found = hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while data := file.read(_BLOCK):
            found.update(data)
            if stopped():
                raise Stopped
    return base64.b64encode(found.digest()).decode()


def digest(files: Iterable[tuple[str, str]]) -> str:
    """Returns the hexadecimal digest of a version with these names and MD5s (for a reference, its URL)."""
    lines = "".join(f"{name}:{md5}\n" for name, md5 in sorted(files))
    return hashlib.md5(_HEAD + lines.encode(), usedforsecurity=False).hexdigest()


def reference_name(url: str) -> str:
    """Returns the name that a URL has in a version."""
    return url.rstrip("/").rpartition("/")[2] or "checkpoint"
