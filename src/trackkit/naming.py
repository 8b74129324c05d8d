"""From logged names to keys, for one run: remembers who owns which key, and settles collisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trackkit.errors import SchemaError, did_you_mean
from trackkit.records import Where
from trackkit.schema import MEASURED_NAMES, canonical, sanitize

_MEASURED = object()
_CONTESTED = object()


class Names:
    """Gives each logged name its key.

    What TrackKit measures wins a key, and the logged name keeps its own; of two logged names that fall on one key,
    compared without case, both keep their own.

    Args:
        mode: `canonical`, `keep` or `strict`.
        synonyms: canonical name to the name wanted instead.
    """

    def __init__(self, mode: str = "canonical", synonyms: Mapping[str, str] | None = None) -> None:
        self.mode = mode
        self.synonyms = dict(synonyms or {})
        self._owners: dict[str, object] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._notices: list[str] = []

    def claim(self, keys: Iterable[str], where: Where) -> None:
        """TrackKit measures `keys`: a logged name that held one of them moves to its own name."""
        for key in keys:
            owner = self._owners.get(key.lower())
            if owner is _MEASURED:
                continue
            self._owners[key.lower()] = _MEASURED
            if isinstance(owner, str):
                self._keys[where.prefix, owner] = self._own(owner, where)
                self._tell_measured(owner, key, where)

    def resolve(self, names: Iterable[str], where: Where) -> dict[str, str]:
        """The keys of `names`, in order.

        Raises:
            SchemaError: under `names: strict`, for a name that neither the schema nor the settings know, and for two
                names that fall on one key.
        """
        names = list(names)
        for name in names:
            if (where.prefix, name) not in self._keys:
                self._assign(name, where)
        return {name: self._keys[where.prefix, name] for name in names}

    @property
    def renames(self) -> dict[str, str]:
        """Logged name to key, wherever the key is not simply the name below its tier."""
        return {name: key for (prefix, name), key in self._keys.items() if key != prefix + name}

    def notices(self) -> list[str]:
        """What is to be told once, since the last call."""
        told, self._notices = self._notices, []
        return told

    def _assign(self, name: str, where: Where) -> None:
        short = canonical(name, where)
        if self.mode == "strict":
            self._check_known(name, short)
        short = self.synonyms.get(name, self.synonyms.get(short, short))
        key = where.prefix + (name if self.mode == "keep" else short)
        owner = self._owners.get(key.lower())
        if owner is None:
            self._take(name, key, where)
        elif owner is _MEASURED:
            self._take(name, self._own(name, where), where)
            self._tell_measured(name, key, where)
        else:
            self._contest(name, key, owner, where)

    def _contest(self, name: str, key: str, owner: object, where: Where) -> None:
        if self.mode == "strict":
            raise SchemaError(
                f"two logged names fall on one key under 'names: strict': '{owner}' and '{name}' are both '{key}'; "
                "rename one, or give it a synonym in the settings"
            )
        self._owners[key.lower()] = _CONTESTED
        both = [owner, name] if isinstance(owner, str) else [name]
        for each in both:
            self._take(each, self._own(each, where), where)
        kept = ", ".join(f"'{self._keys[where.prefix, each]}'" for each in both)
        self._notices.append(f"several logged names fall on '{key}': they keep their own names, {kept}")

    def _take(self, name: str, key: str, where: Where) -> None:
        self._keys[where.prefix, name] = key
        self._owners[key.lower()] = name

    def _own(self, name: str, where: Where) -> str:
        key = where.prefix + sanitize(name)
        while self._owners.get(key.lower(), name) not in (name, _CONTESTED):
            key += "_logged"
        return key

    def _tell_measured(self, name: str, key: str, where: Where) -> None:
        own = self._keys[where.prefix, name]
        self._notices.append(f"'{key}' is measured by TrackKit; the logged '{name}' is kept as '{own}'")

    def _check_known(self, name: str, short: str) -> None:
        known = MEASURED_NAMES | set(self.synonyms) | set(self.synonyms.values())
        if name not in known and short not in known:
            raise SchemaError(
                f"'names: strict' knows no metric '{name}'{did_you_mean(short, known)} "
                "(add it to 'synonyms' in the settings, e.g. "
                f"'{short}: {short}', or use 'names: canonical')"
            )
