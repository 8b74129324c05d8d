"""The checkpoints that this process has loaded: the parents of the run that uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackkit.checkpoints.ledger import read_home, read_ledger

# Loaded before the run that uses them has started.
_waiting: list[Parent] = []


@dataclass(frozen=True, slots=True)
class Parent:
    """A checkpoint that was loaded.

    Attributes:
        run_id, run_name: of the run that saved it; "" if unknown.
        checkpoint: what it is, such as `model-toy:v3` or `model-toy (step 120)`.
        step: optimizer steps taken; None if unknown.
        artifact: its version on the server, `entity/project/collection:v3`; "" if unknown.
        folder, number: of its run, and of its entry in the ledger there; "" and 0 for one that only a server knows.
    """

    run_id: str = ""
    run_name: str = ""
    checkpoint: str = ""
    step: int | None = None
    artifact: str = ""
    folder: str = ""
    number: int = 0


def wait(parent: Parent) -> None:
    """Keeps a parent for the run that starts next in this process."""
    if parent not in _waiting:
        _waiting.append(parent)


def take_waiting() -> list[Parent]:
    """Returns the parents that wait for a run, and forgets them."""
    found, _waiting[:] = list(_waiting), []
    return found


def parent_config(parents: Sequence[Parent]) -> Mapping[str, Any]:
    """Returns what the run config says of a run's parents; those of several are separated by commas."""
    columns: dict[str, list[Any]] = {
        "parent/run": [each.run_id for each in parents],
        "parent/name": [each.run_name for each in parents],
        "parent/checkpoint": [each.checkpoint for each in parents],
        "parent/step": [each.step for each in parents],
    }
    if len(parents) == 1:
        return {key: values[0] for key, values in columns.items() if values[0] not in ("", None)}
    return {
        key: ", ".join("?" if each in ("", None) else str(each) for each in values)
        for key, values in columns.items()
        if any(each not in ("", None) for each in values)
    }


def version_name(folder: str, number: int) -> str:
    """Returns `entity/project/collection:v3` of an entry in a run's folder; "" while no server has it."""
    version = next((each.version for each in read_ledger(Path(folder)) if each.number == number), "")
    return f"{read_home(Path(folder)).rpartition('/')[0]}/{version}" if version else ""
