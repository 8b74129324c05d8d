"""From logged names to keys, for one run: remembers who owns which key, and settles collisions."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from trackkit.errors import SchemaError, did_you_mean
from trackkit.schema.keys import MEASURED_NAMES, Where, canonical, sanitize
from trackkit.schema.sets import Sets


class _Logged(NamedTuple):
    """A logged name: the key it would like, the key of its own name, which it falls back on, and its full spelling."""

    prefix: str
    name: str
    wanted: str
    own: str
    spelled: str


class Names:
    """Gives each logged name its key.

    What TrackKit measures wins a key, and the logged name keeps its own; of logged names that fall on one key,
    compared without case, all keep their own. Which keys come out depends on what is logged, never on its order.

    Args:
        mode: `canonical`, `keep` or `strict`.
        synonyms: canonical name to the name wanted instead.
    """

    def __init__(self, mode: str = "canonical", synonyms: Mapping[str, str] | None = None) -> None:
        self.mode = mode
        self.synonyms = dict(synonyms or {})
        self._logged: dict[tuple[str, str], _Logged] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._measured: dict[str, str] = {}
        self._taken: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._notices: list[str] = []
        self._sets = Sets()

    def claim(self, keys: Iterable[str], where: Where) -> None:
        """TrackKit measures `keys`: a logged name that held one of them moves to its own name."""
        new = {key.lower(): key for key in keys if key.lower() not in self._measured}
        self._measured.update(new)
        if not self._taken.isdisjoint(new):
            self._settle()

    def resolve(self, names: Iterable[str], where: Where) -> dict[str, str]:
        """The keys of `names`, in order.

        Raises:
            SchemaError: under `names: strict`, for a name that neither the schema nor the settings know, and for two
                names that fall on one key.
        """
        names, where = list(names), self._sets.placed(where)
        for name in names:
            if (where.prefix, name) not in self._keys:
                self._add(name, where)
        return {name: self._keys[where.prefix, name] for name in names}

    @property
    def renames(self) -> dict[str, str | list[str]]:
        """Logged name to key (to keys, where events differ), wherever it is not simply the name below its tier."""
        found: dict[str, list[str]] = {}
        for each, logged in self._logged.items():
            if self._keys[each] != logged.prefix + logged.spelled:
                found.setdefault(logged.spelled, []).append(self._keys[each])
        return {name: keys[0] if len(keys) == 1 else keys for name, keys in found.items()}

    def notices(self) -> list[str]:
        """What is to be told once, since the last call."""
        told, self._notices = self._sets.notices() + self._notices, []
        return told

    def _add(self, name: str, where: Where) -> None:
        short = canonical(name, where)
        if self.mode == "strict":
            self._check_known(name, short)
        short = self.synonyms.get(name, self.synonyms.get(short, short))
        keep = self.mode == "keep"
        logged = _Logged(
            where.prefix,
            name,
            wanted=where.prefix + (name if keep else sanitize(short)),
            own=where.prefix + (name if keep else sanitize(name)),
            spelled=where.spelled(name),
        )
        lower = logged.wanted.lower()
        if self.mode == "strict":
            self._check_alone(logged)
        self._logged[where.prefix, name] = logged
        if lower in self._measured or lower in self._taken:
            self._settle()
        else:
            self._keys[where.prefix, name] = logged.wanted
            self._taken.add(lower)

    def _settle(self) -> None:
        """Gives all keys anew. Names give way to their own name until no wanted key is contested any more."""
        everyone = list(self._logged.values())
        gave_way: set[_Logged] = set()
        while True:
            held = Counter((each.own if each in gave_way else each.wanted).lower() for each in everyone)
            losers = {
                each
                for each in everyone
                if each not in gave_way and (each.wanted.lower() in self._measured or held[each.wanted.lower()] > 1)
            }
            if not losers:
                break
            gave_way |= losers
        keys = {each: self._own(each) if each in gave_way else each.wanted for each in everyone}
        held = Counter(key.lower() for key in keys.values())
        # Of names that differ only in case or in what keys can't hold, the one that is spelt as the key keeps it.
        exact = {key: each for each, key in sorted(keys.items()) if key == each.prefix + each.name.lower()}
        for each, key in keys.items():
            alone = held[key.lower()] == 1 or each not in gave_way or exact.get(key) is each
            self._keys[each.prefix, each.name] = key if alone else f"{key}_{zlib.crc32(each.name.encode()):08x}"
        self._taken = {each.wanted.lower() for each in everyone} | {key.lower() for key in self._keys.values()}
        self._tell(gave_way)

    def _own(self, each: _Logged) -> str:
        return f"{each.own}_logged" if each.own.lower() in self._measured else each.own

    def _tell(self, gave_way: set[_Logged]) -> None:
        new = [each for each in gave_way if (each.prefix, each.name) not in self._told]
        self._told.update((each.prefix, each.name) for each in new)
        groups: dict[str, list[_Logged]] = {}
        for each in sorted(new):
            if each.wanted.lower() in self._measured:
                measured, key = self._measured[each.wanted.lower()], self._keys[each.prefix, each.name]
                self._notices.append(
                    f"'{measured}' is measured by TrackKit; the logged '{each.name}' is kept as '{key}'"
                )
            else:
                groups.setdefault(each.wanted.lower(), []).append(each)
        for group in groups.values():
            kept = ", ".join(f"'{self._keys[each.prefix, each.name]}'" for each in group)
            self._notices.append(f"several logged names fall on '{group[0].wanted}': they keep their own names, {kept}")

    def _check_alone(self, logged: _Logged) -> None:
        lower = logged.wanted.lower()
        if lower in self._measured:
            return
        for other in self._logged.values():
            if other.wanted.lower() == lower:
                first, second = sorted((other.name, logged.name))
                raise SchemaError(
                    f"two logged names fall on one key under 'names: strict': '{first}' and '{second}' are both "
                    f"'{logged.wanted}'; rename one, or give it a synonym in the settings"
                )

    def _check_known(self, name: str, short: str) -> None:
        known = MEASURED_NAMES | set(self.synonyms) | set(self.synonyms.values())
        if name not in known and short not in known:
            raise SchemaError(
                f"'names: strict' knows no metric '{name}'{did_you_mean(short, known)} "
                "(add it to 'synonyms' in the settings, e.g. "
                f"'{short}: {short}', or use 'names: canonical')"
            )
