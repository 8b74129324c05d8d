"""What is known of a run as it starts, put together part by part: one that can't be had costs only itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Part = TypeVar("Part")
Default = TypeVar("Default")


class Description:
    """Gathers the run config.

    Attributes:
        config: the parts so far.
        faults: what could not be had, in words, and why.
    """

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.faults: list[tuple[str, Exception]] = []

    def add(self, what: str, part: Callable[[], Mapping[str, Any]]) -> None:
        """A part of the run config; left out where it fails."""
        self.config.update(self.ask(what, part, {}))

    def ask(self, what: str, part: Callable[[], Part], default: Default) -> Part | Default:
        """What `part` gives; `default` where it fails."""
        try:
            return part()
        except Exception as error:
            self.faults.append((what, error))
            return default
