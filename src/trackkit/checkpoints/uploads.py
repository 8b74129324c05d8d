"""The port to a server that keeps checkpoints as versions of a collection. Every backend that can implements it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from trackkit.checkpoints.entry import Entry
from trackkit.redaction.patterns import mask


class UploadError(Exception):
    """A server refused, or did not answer. Secrets in what it said are masked.

    Attributes:
        final: whether the same question would fail again in this process.
    """

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(mask(message))
        self.final = final


@dataclass(frozen=True, slots=True)
class Version:
    """A version as the server has it.

    Attributes:
        state: `pending` until the server has all of it; `refused` if it will never have it.
        name: `collection:v3`; "" while it has none.
        aliases: it has now.
        hub_url, was: in its metadata.
        reason: why it was refused.
    """

    state: Literal["pending", "committed", "refused"]
    name: str = ""
    aliases: tuple[str, ...] = ()
    hub_url: str = ""
    was: tuple[str, ...] = ()
    reason: str = ""


class Uploads(Protocol):
    """Where the checkpoints of one run go. The worker is its only caller. All methods may raise `UploadError`.

    Attributes:
        path: of the run on the server, `entity/project/run_id`.
        finish_timeout: seconds that the end of the run may wait for it.
        notify: set by the worker; to be called, from any thread, when an upload has ended, well or not.
    """

    path: str
    finish_timeout: float
    notify: Callable[[], None]

    def hand_over(self, entry: Entry, folder: Path) -> None:
        """Begins the upload of a hashed entry; returns without waiting for its end.

        Args:
            entry: its files' names are relative to `folder`; without files, its path is a URL to refer to.
            folder: with the staged files.
        """

    def states(self, entries: Sequence[Entry]) -> Mapping[int, Version]:
        """Returns the number of each entry that the server knows to its version; asks one question for all."""

    def set_aliases(self, entry: Entry, add: Sequence[str], remove: Sequence[str] = ()) -> None:
        """Gives a committed version aliases, which other versions of its collection lose, and removes some.

        Its metadata become those of the entry, whose `hub_url` and `was` may be new; of an entry without a number,
        only `was` is written.
        """

    def others(self, collection: str, known: Collection[str]) -> Sequence[Entry]:
        """Returns the committed versions of a collection that are not of this run, as entries without a number.

        Args:
            collection: its name.
            known: the digests of this run's versions.
        """

    def remove_leftovers(self, entries: Sequence[Entry]) -> None:
        """Deletes what uploads of entries have left behind that broke off, as `states` has found it."""

    def delete(self, entry: Entry, used: bool = False) -> bool:
        """Deletes the version of an entry, with its aliases, if it has one.

        Args:
            entry: as `states` was last asked for.
            used: whether to delete it even if a run has used it.

        Returns:
            Whether it is gone; False if it is used or linked, or, with `used` too, if another run has logged it first.
        """

    def link(self, entry: Entry, target: str, alias: str) -> str:
        """Links a committed version to a registry's collection, such as `wandb-registry-model/resnet`.

        Args:
            entry: of the version.
            target: the collection.
            alias: that it gets there; "" for none.

        Returns:
            The version that had the alias before, whose metadata now say so; "" if none had.
        """

    def use(self, name: str) -> bool:
        """Records that the run has used a version, `entity/project/collection:v3`; returns whether it exists."""
