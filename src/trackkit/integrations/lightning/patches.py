"""What is exchanged on a trainer's own objects while TrackKit listens, and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trackkit.notices import logger


class Patches:
    """Attributes of instances that hide those of their class."""

    def __init__(self) -> None:
        self._set: list[tuple[Any, str]] = []

    def wrap(self, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
        """Puts `wrap(method)` in place of a method; one line where there is no such method."""
        original = getattr(owner, name, None)
        if original is None:
            logger.warning("this Lightning has no '%s': what depends on it is not recorded", name)
            return
        self.put(owner, name, wrap(original))

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute."""
        owner.__dict__[name] = value
        self._set.append((owner, name))

    def undo(self) -> None:
        """Puts everything back."""
        for owner, name in self._set:
            owner.__dict__.pop(name, None)
        self._set.clear()
