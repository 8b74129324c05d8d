"""A small disk that a test can fill: a tmpfs, or without the right to mount one, a limit on the size of files."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path


class SmallDisk:
    """A disk of 3 MB.

    Args:
        folder: to mount it on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)]
        self._is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self._limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        """Leaves no space: files can't grow."""
        if not self._is_mounted:
            size = max(path.stat().st_size for path in self.folder.rglob("rows.jsonl"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._limit[1]))
            return
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            for size in (65536, 1):
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    pass

    def free(self) -> None:
        """Undoes `fill`."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)
        (self.folder / "ballast").unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmounts the disk."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)
        if self._is_mounted:
            os.sync()
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
