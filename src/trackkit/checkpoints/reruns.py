"""Keeps a new training from writing into the staged checkpoints of an earlier one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from trackkit.checkpoints.staging import remove, spare_of
from trackkit.notices import logger

NAMED_BY_STEP: Mapping[str, str] = {
    "huggingface": "checkpoint-*",
}
"""Frameworks whose next training saves to the same paths, and the folders' names. torch.save writes in place."""


def separate(output: Path, framework: str) -> None:
    """Replaces linked files among the checkpoints in an output folder by copies, before a new training starts.

    An earlier run that is not uploaded yet has the links, which the training would write into. Takes the time of the
    copy; nothing if no file is linked.

    Args:
        output: the framework's output folder.
        framework: as in `Start`.
    """
    size = 0
    try:
        for folder in output.glob(NAMED_BY_STEP[framework]) if framework in NAMED_BY_STEP else ():
            size += sum(_replace(path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    except OSError as error:
        logger.warning(
            "'%s' has checkpoints of an earlier run that are not uploaded yet, and they could not be copied (%s). This "
            "training may overwrite them: give it an output folder of its own.",
            output,
            error,
        )
    if size:
        logger.info(
            "'%s' has checkpoints of an earlier run that are not uploaded yet. %.1f MB were copied, so that this "
            "training does not overwrite them.",
            output,
            size / 1e6,
        )


def _replace(path: Path) -> int:
    """Replaces a file that has other links by a copy; returns the bytes copied."""
    found = path.stat()
    if found.st_nlink == 1:
        return 0
    spare = spare_of(path)
    try:
        shutil.copy2(path, spare)
        os.replace(spare, path)
    except OSError:
        remove(spare)
        raise
    return found.st_size
