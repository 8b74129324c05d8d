"""Evaluation sets: each has a segment of its own in the keys of its metrics."""

from __future__ import annotations

import zlib
from dataclasses import replace

from trackkit.schema.keys import Where, sanitize


class Sets:
    """Names evaluation sets, for one run. Of those that fall on one name, without case, the first keeps it."""

    def __init__(self) -> None:
        self._segments: dict[tuple[str, str], str] = {}
        self._notices: list[str] = []

    def placed(self, where: Where) -> Where:
        """`where` with its set as keys spell it."""
        if not where.dataset:
            return where
        known = self._segments.get((where.split, where.dataset)) or self._name(where.split, where.dataset)
        return replace(where, dataset=known)

    def notices(self) -> list[str]:
        """What is to be told once, since the last call."""
        told, self._notices = self._notices, []
        return told

    def _name(self, split: str, given: str) -> str:
        wanted = segment = sanitize(given.replace("/", "_"))
        for (other, first), taken in self._segments.items():
            if other == split and taken.lower() == wanted.lower():
                segment = f"{wanted}_{zlib.crc32(given.encode()):08x}"
                self._notices.append(
                    f"the evaluation sets '{first}' and '{given}' would both be '{wanted}': the latter is '{segment}'"
                )
        self._segments[split, given] = segment
        return segment
