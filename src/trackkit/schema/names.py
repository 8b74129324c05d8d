"""Gives logged names and evaluation sets their keys, for one run, and resolves collisions."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from trackkit.errors import SchemaError, did_you_mean
from trackkit.schema.keys import MEASURED_NAMES, Where, canonical, sanitize


class _Logged(NamedTuple):
    """A logged name.

    Attributes:
        prefix: of the keys of its event.
        name: as logged.
        wanted: the key of its canonical name.
        own: the key of the logged name itself, used if another name wants the same key.
        spelled: the name with the framework's marks around it.
    """

    prefix: str
    name: str
    wanted: str
    own: str
    spelled: str


class EvaluationSets:
    """Gives each evaluation set a segment of its own in its keys.

    If several sets want one segment, compared without case, the first keeps it and the others get a hash.
    """

    def __init__(self, clean: Callable[[str], str] = str) -> None:
        self._clean = clean
        self._segments: dict[tuple[str, str], str] = {}
        self._notices: list[str] = []

    def resolve(self, where: Where) -> Where:
        """Returns `where` with its set as the keys spell it."""
        if not where.dataset:
            return where
        known = self._segments.get((where.split, where.dataset)) or self._add(where.split, where.dataset)
        return replace(where, dataset=known)

    def notices(self) -> list[str]:
        """Returns the notices for the user since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def _add(self, split: str, given: str) -> str:
        wanted = segment = sanitize(self._clean(given).replace("/", "_"))
        for (other, first), used in self._segments.items():
            if other == split and used.lower() == wanted.lower():
                segment = f"{wanted}_{zlib.crc32(given.encode()):08x}"
                self._notices.append(
                    f"The evaluation sets '{first}' and '{given}' both map to '{wanted}'; "
                    f"the latter is recorded as '{segment}'."
                )
        self._segments[split, given] = segment
        return segment


class Names:
    """Gives each logged name its key.

    A key that TrackKit measures is TrackKit's; a logged name that wants it keeps its own name. If several logged names
    want one key, compared without case, all of them keep their own names. The keys do not depend on the order in which
    names are logged.

    Args:
        mode: `canonical`, `keep` or `strict`.
        synonyms: canonical name to the name that replaces it.
        clean: masks the secrets in a name, before anything else is done with it.
    """

    def __init__(
        self,
        mode: str = "canonical",
        synonyms: Mapping[str, str] | None = None,
        clean: Callable[[str], str] = str,
    ) -> None:
        self.mode = mode
        self.synonyms = dict(synonyms or {})
        self._logged: dict[tuple[str, str], _Logged] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._measured: dict[str, str] = {}
        self._used: set[str] = set()
        self._noticed: set[tuple[str, str]] = set()
        self._notices: list[str] = []
        self._clean = clean
        self._sets = EvaluationSets(clean)
        self._synonyms_used: set[str] = set()

    def claim(self, keys: Iterable[str]) -> None:
        """Reserves the keys that TrackKit measures; a logged name that has one of them gets the key of its own name."""
        new = {key.lower(): key for key in keys if key.lower() not in self._measured}
        self._measured.update(new)
        if not self._used.isdisjoint(new):
            self._assign()

    def segment(self, where: Where) -> str:
        """Returns an evaluation set's name as the keys spell it; "" if it has none."""
        return self._sets.resolve(where).dataset

    def part(self, name: str) -> str:
        """Returns the name of a part of something measured, as keys spell it."""
        return sanitize(self._clean(name))

    def unused(self) -> dict[str, str]:
        """Returns the synonyms that have no effect, as the settings name them, and why."""
        if self.mode == "keep":
            return {}
        why = "no metric of this name was logged"
        return {f"synonyms: {name}": why for name in self.synonyms if name not in self._synonyms_used}

    def resolve(self, names: Iterable[str], where: Where) -> dict[str, str]:
        """Returns the keys of `names`, in order.

        Raises:
            SchemaError: with `names: strict`, a name that neither the schema nor the settings know, or two names that
                want one key.
        """
        names, where = list(names), self._sets.resolve(where)
        for name in names:
            if (where.prefix, name) not in self._keys:
                self._add(name, where)
        return {name: self._keys[where.prefix, name] for name in names}

    @property
    def renames(self) -> dict[str, str | list[str]]:
        """Maps logged names to their key, or keys if events differ; leaves out names that are kept below their tier."""
        found: dict[str, list[str]] = {}
        for each, logged in self._logged.items():
            if self._keys[each] != logged.prefix + logged.spelled:
                found.setdefault(logged.spelled, []).append(self._keys[each])
        return {name: keys[0] if len(keys) == 1 else keys for name, keys in found.items()}

    def notices(self) -> list[str]:
        """Returns the notices for the user since the last call."""
        notices, self._notices = self._sets.notices() + self._notices, []
        return notices

    def _add(self, name: str, where: Where) -> None:
        shown = self._clean(name)
        short = canonical(shown, where)
        if self.mode == "strict":
            self._check_known(shown, short)
        self._synonyms_used.update({name, short} & self.synonyms.keys())
        short = self.synonyms.get(name, self.synonyms.get(short, short))
        keep = self.mode == "keep"
        logged = _Logged(
            where.prefix,
            name,
            wanted=where.prefix + (shown if keep else sanitize(short)),
            own=where.prefix + (shown if keep else sanitize(shown)),
            spelled=where.spelled(shown),
        )
        lower = logged.wanted.lower()
        if self.mode == "strict":
            self._check_alone(logged)
        self._logged[where.prefix, name] = logged
        if lower in self._measured or lower in self._used:
            self._assign()
        else:
            self._keys[where.prefix, name] = logged.wanted
            self._used.add(lower)

    def _assign(self) -> None:
        """Assigns all keys again: names fall back on their own key until no wanted key is contested."""
        everyone = list(self._logged.values())
        fell_back: set[_Logged] = set()
        while True:
            held = Counter((each.own if each in fell_back else each.wanted).lower() for each in everyone)
            losers = {
                each
                for each in everyone
                if each not in fell_back and (each.wanted.lower() in self._measured or held[each.wanted.lower()] > 1)
            }
            if not losers:
                break
            fell_back |= losers
        keys = {each: self._own_key(each) if each in fell_back else each.wanted for each in everyone}
        held = Counter(key.lower() for key in keys.values())
        # Of names that differ in case or in characters that keys can't hold, the one spelled like the key keeps it.
        exact = {key: each for each, key in sorted(keys.items()) if key == each.prefix + each.name.lower()}
        for each, key in keys.items():
            alone = held[key.lower()] == 1 or each not in fell_back or exact.get(key) is each
            self._keys[each.prefix, each.name] = key if alone else f"{key}_{zlib.crc32(each.name.encode()):08x}"
        self._used = {each.wanted.lower() for each in everyone} | {key.lower() for key in self._keys.values()}
        self._notice(fell_back)

    def _own_key(self, each: _Logged) -> str:
        return f"{each.own}_logged" if each.own.lower() in self._measured else each.own

    def _notice(self, fell_back: set[_Logged]) -> None:
        new = [each for each in fell_back if (each.prefix, each.name) not in self._noticed]
        self._noticed.update((each.prefix, each.name) for each in new)
        groups: dict[str, list[_Logged]] = {}
        for each in sorted(new):
            if each.wanted.lower() in self._measured:
                measured, key = self._measured[each.wanted.lower()], self._keys[each.prefix, each.name]
                self._notices.append(
                    f"'{measured}' is measured by TrackKit; the logged '{each.name}' is recorded as '{key}'."
                )
            else:
                groups.setdefault(each.wanted.lower(), []).append(each)
        for group in groups.values():
            kept = ", ".join(f"'{self._keys[each.prefix, each.name]}'" for each in group)
            self._notices.append(f"Several logged names map to '{group[0].wanted}'; they are recorded as {kept}.")

    def _check_alone(self, logged: _Logged) -> None:
        lower = logged.wanted.lower()
        if lower in self._measured:
            return
        for other in self._logged.values():
            if other.wanted.lower() == lower:
                first, second = sorted((other.name, logged.name))
                raise SchemaError(
                    f"with 'names: strict', the logged names '{first}' and '{second}' must not have the same key, "
                    f"'{logged.wanted}'. Rename one, or give it a synonym in the settings."
                )

    def _check_known(self, name: str, short: str) -> None:
        known = MEASURED_NAMES | set(self.synonyms) | set(self.synonyms.values())
        if name not in known and short not in known:
            raise SchemaError(
                f"unknown metric '{name}' with 'names: strict'. Rename it, add '{short}: {short}' to 'synonyms' in the "
                f"settings, or use 'names: canonical'{did_you_mean(short, known)}"
            )
