"""Collects the parts of a run's description; a part that raises is left out, and the others are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Part = TypeVar("Part")
Default = TypeVar("Default")


class Description:
    """Collects the run config.

    Attributes:
        config: the parts added so far, as flat keys.
        faults: what each part that raised is called, with the error.
    """

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.faults: list[tuple[str, Exception]] = []

    def add(self, what: str, part: Callable[[], Mapping[str, Any]]) -> None:
        """Adds a part to the run config; leaves it out if it raises.

        Args:
            what: the part's name for the log, such as "the optimizer".
            part: returns its keys and values.
        """
        self.config.update(self.ask(what, part, {}))

    def ask(self, what: str, part: Callable[[], Part], default: Default) -> Part | Default:
        """Returns the result of `part`; `default` if it raises."""
        try:
            return part()
        except Exception as error:  # noqa: BLE001 -- counted
            self.faults.append((what, error))
            return default
