"""Gathers what is known of a run when it starts, part by part: a part that fails costs only itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Part = TypeVar("Part")
Default = TypeVar("Default")


class Description:
    """Gathers the run config.

    Attributes:
        config: the parts so far.
        faults: the parts that failed, in words, each with its error.
    """

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.faults: list[tuple[str, Exception]] = []

    def add(self, what: str, part: Callable[[], Mapping[str, Any]]) -> None:
        """Adds a part of the run config; leaves it out if it fails.

        Args:
            what: the part in words, for the log.
            part: returns it.
        """
        self.config.update(self.ask(what, part, {}))

    def ask(self, what: str, part: Callable[[], Part], default: Default) -> Part | Default:
        """Returns the result of `part`; `default` if it fails."""
        try:
            return part()
        except Exception as error:  # noqa: BLE001 -- counted
            self.faults.append((what, error))
            return default
