"""What the settings of the callback `checkpoints` ask for: which checkpoints are uploaded, and which are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from trackkit.checkpoints.aliases import records
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.naming import check_alias, check_template
from trackkit.checkpoints.retention import expendable
from trackkit.notices import first_time, logger

UPLOADS = ("best_and_latest", "best", "all", "none")
WAITING = ("saved", "staged", "hashed")
MOST_WAITING = 16
"""With `upload: all`: of those that would be deleted right after their upload, so many may wait for it."""
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Rules:
    """The options of the callback, checked; see `callbacks.checkpoints.Checkpoints`.

    Raises:
        ValueError: an option of the wrong type or value.
    """

    upload: str = "best_and_latest"
    max_GB: float = 5.0
    max_total_GB: float = 20.0
    keep: int = 3
    keep_days: float | None = None
    weights_only: bool = False
    promote: str | Mapping[str, str] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.upload not in UPLOADS:
            raise ValueError(f"'upload' must be one of {', '.join(map(repr, UPLOADS))}; got {self.upload!r}")
        for option in ("max_GB", "max_total_GB", "keep_days"):
            value = getattr(self, option)
            if not ((_is_number(value) and value >= 0) or (value is None and option == "keep_days")):
                raise ValueError(f"'{option}' must be a number, 0 or more; got {value!r}")
        if not isinstance(self.keep, int) or isinstance(self.keep, bool) or self.keep < 1:
            raise ValueError(f"'keep' must be a whole number, 1 or more; got {self.keep!r}")
        if not isinstance(self.weights_only, bool):
            raise ValueError(f"'weights_only' must be true or false; got {self.weights_only!r}")
        if self.name is not None:
            if not isinstance(self.name, str):
                raise ValueError(f"'name' must be a text; got {self.name!r}")
            check_template(self.name)
        self._check_promote()

    def _check_promote(self) -> None:
        given = self.promote
        if isinstance(given, Mapping):
            parts = [given.get("registry"), given.get("alias", "")]
            if given.keys() <= {"registry", "alias"} and all(isinstance(part, str) for part in parts) and parts[0]:
                if alias := given.get("alias"):
                    check_alias(alias)
                return
        elif given is None:
            return
        elif isinstance(given, str):
            check_alias(given)
            return
        raise ValueError(f"'promote' must be an alias or {{registry: ..., alias: ...}}; got {given!r}")

    @classmethod
    def recorded(cls, options: Mapping[str, Any]) -> Rules:
        """Returns the rules that a ledger has; with a warning the defaults, if they are damaged."""
        try:
            return cls(**options)
        except (TypeError, ValueError):
            logger.warning("The run's settings of 'checkpoints' can't be read; the defaults count.")
            return cls()

    @property
    def options(self) -> dict[str, Any]:
        """The options as JSON."""
        promote = dict(self.promote) if isinstance(self.promote, Mapping) else self.promote
        return {**asdict(replace(self, promote=None)), "promote": promote}

    def promotion(self) -> dict[str, tuple[str, ...]]:
        """Returns what `promote` adds to the best entry: its fields `promoted` and `links`."""
        if isinstance(self.promote, Mapping):
            return {"links": (f"{self.promote['registry']}:{self.promote.get('alias', '')}".rstrip(":"),)}
        return {"promoted": (self.promote,)} if self.promote else {}

    def refusal(self, entry: Entry, uploaded: int) -> str:
        """Returns why an entry is never uploaded, whatever is saved after it; "" if it may be.

        Args:
            entry: saved or hashed.
            uploaded: bytes that the run has uploaded so far.
        """
        if self.upload == "none":
            return "'upload' is 'none'"
        if not entry.complete:
            return "the framework marks it as incomplete"
        if entry.size > self.max_GB * _GB:
            return f"larger than 'max_GB' ({self.max_GB:g})"
        if uploaded + entry.size > self.max_total_GB * _GB:
            return f"'max_total_GB' ({self.max_total_GB:g}) is reached"
        return ""

    def refusal_at_save(self, entry: Entry, uploaded: int, present: Sequence[Entry]) -> str:
        """Returns the same for an entry that has just been saved, beside those that are present.

        With `upload: best`, one that is no better than those before it can't become the best.
        """
        group = [each for each in present if each.collection == entry.collection]
        if self.upload == "best" and records([*group, entry])[-1:] != [entry]:
            return "'upload' is 'best', and it is not"
        return self.refusal(entry, uploaded)

    def say(self, entry: Entry, refusal: str) -> None:
        """Says that an entry is refused for its size, once for each reason and collection."""
        if "max_" in refusal and first_time(f"{entry.collection}: {refusal}"):
            logger.info(
                "The checkpoint of step %d (%.3g GB) is recorded and not uploaded: %s. Change it under 'callbacks: "
                "checkpoints:'.",
                entry.step,
                entry.size / _GB,
                refusal,
            )

    def superseded(self, entries: Sequence[Entry], now: float, takes: bool) -> list[Entry]:
        """Returns the entries that wait, and whose upload later saves have made pointless.

        With `upload: all` and a server that takes them, that is only what waits longest, where very many do.
        """
        waiting = [each for each in self.expendable(entries, now) if each.state in WAITING]
        return waiting[:-MOST_WAITING] if self.upload == "all" and takes else waiting

    def expendable(self, entries: Sequence[Entry], now: float, held: Collection[int] = ()) -> list[Entry]:
        """Returns the entries that may be deleted."""
        return expendable(entries, self.keep, self.keep_days, now, held)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
