"""A server of checkpoints in memory, which can be slow, refuse or be away: implements `checkpoints.uploads.Uploads`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trackkit.checkpoints.alignment import entry_of_version
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.uploads import UploadError, Version


@dataclass
class Held:
    """A version that the server has: its number in the ledger, its entry, what it holds, and what others see."""

    number: int
    entry: Entry
    content: dict[str, bytes]
    aliases: list[str] = field(default_factory=list)
    state: str = "pending"
    was: tuple[str, ...] = ()

    @property
    def collection(self) -> str:
        return self.entry.collection

    @property
    def digest(self) -> str:
        return self.entry.digest


class MemoryUploads:
    """Keeps versions in memory.

    Args:
        chance: says for each question whether it fails, half of them, and which upload ends next; None for no failures.

    Attributes:
        versions: all that were ever handed over, in this order.
        holds: uploads end only once `release` is called.
        refuses, away: no upload succeeds; nothing is answered.
        used: collection and digest of those that a run has used.
        chance: see above.
        links: target and alias of each link that was made.
        uses: names of the versions of other runs that the run has used.
        denied: aliases and targets that are refused.
    """

    def __init__(self, chance: random.Random | None = None, finish_timeout: float = 10.0) -> None:
        self.path = "team/p/run"
        self.finish_timeout = finish_timeout
        self.notify: Callable[[], None] = lambda: None
        self.versions: list[Held] = []
        self.holds = self.refuses = self.away = False
        self.used: set[tuple[str, str]] = set()
        self.links: list[tuple[str, str]] = []
        self.uses: list[str] = []
        self.denied: set[str] = set()
        self.lock = threading.RLock()
        self.chance = chance

    def hand_over(self, entry: Entry, folder: Path) -> None:
        with self.lock:
            self._answer()
            version = self._version(entry)
            if version is None or version.state == "refused":
                content = {file.name: (folder / file.name).read_bytes() for file in entry.files}
                self.versions.append(Held(entry.number, entry, content))
            if not self.holds:
                self.release()

    def release(self) -> None:
        """Ends all uploads that are under way, in any order; each has `latest` then, as with W&B."""
        with self.lock:
            pending = [each for each in self.versions if each.state == "pending"]
            if self.chance is not None:
                self.chance.shuffle(pending)
            for each in pending:
                each.state = "refused" if self.refuses else "committed"
                if not self.refuses:
                    self._give(each, ["latest"])
        self.notify()

    def states(self, entries: Sequence[Entry]) -> Mapping[int, Version]:
        with self.lock:
            self._answer()
            found = {}
            for entry in entries:
                if (each := self._version(entry)) is not None:
                    found[entry.number] = Version(each.state, self._name(each), tuple(each.aliases), was=each.was)  # type: ignore[arg-type]
            return found

    def others(self, collection: str, known: Collection[str]) -> list[Entry]:
        with self.lock:
            self._answer()
            return [
                entry_of_version(
                    each.entry.metadata,
                    0.0,
                    collection=collection,
                    digest=each.digest,
                    version=self._name(each),
                    aliases=tuple(each.aliases),
                )
                for each in self.live
                if each.collection == collection and each.digest not in known
            ]

    def remove_leftovers(self, entries: Sequence[Entry]) -> None:
        self._answer()

    def set_aliases(self, entry: Entry, add: Sequence[str], remove: Sequence[str] = ()) -> None:
        with self.lock:
            self._answer()
            if self.denied & {*add}:
                raise UploadError("not allowed")
            version = self._version(entry)
            assert version is not None
            assert version.state == "committed"
            self._give(version, add)
            version.aliases = [each for each in version.aliases if each not in remove]
            version.was = entry.was or version.was

    def delete(self, entry: Entry, used: bool = False) -> bool:
        with self.lock:
            self._answer()
            if not used and (entry.collection, entry.digest) in self.used:
                return False
            if (version := self._version(entry)) is not None:
                version.state, version.aliases = "deleted", []
            return True

    def link(self, entry: Entry, target: str, alias: str) -> str:
        self._answer()
        assert self._version(entry) is not None
        if target in self.denied:
            raise UploadError("no such registry")
        self.links.append((target, alias))
        return ""

    def use(self, name: str) -> bool:
        with self.lock:
            self._answer()
            self.uses.append(name)
            return True

    @property
    def live(self) -> list[Held]:
        """The committed versions."""
        return [each for each in self.versions if each.state == "committed"]

    @property
    def aliases(self) -> dict[str, int]:
        """Alias to the ledger's number of its version; of one collection."""
        return {alias: each.number for each in self.live for alias in each.aliases}

    def _name(self, version: Held) -> str:
        same = [each for each in self.versions if each.collection == version.collection]
        return f"{version.collection}:v{same.index(version)}"

    def _version(self, entry: Entry) -> Held | None:
        same = [each for each in self.versions if (each.collection, each.digest) == (entry.collection, entry.digest)]
        return next((each for each in reversed(same) if each.state != "deleted"), None)

    def _give(self, version: Held, aliases: Sequence[str]) -> None:
        for each in self.live:
            if each.collection == version.collection:
                each.aliases = [alias for alias in each.aliases if alias not in aliases]
        version.aliases += [alias for alias in aliases if alias not in version.aliases]

    def _answer(self) -> None:
        if self.away or (self.chance is not None and self.chance.random() < 0.3):
            raise UploadError("no answer")
