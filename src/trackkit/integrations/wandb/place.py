"""At which step of W&B's a row is logged."""

from __future__ import annotations

from collections.abc import Mapping


class Place:
    """Finds the W&B step of one row after the other: never backwards, and nothing is written over.

    Attributes:
        step: of the row taken last.
    """

    def __init__(self) -> None:
        self.step = -1
        self._values: dict[str, float | int] = {}

    def take(self, step: int, values: Mapping[str, float | int], counter: int) -> None:
        """Gives a row its step.

        Args:
            step: the row's own.
            values: the row's.
            counter: W&B's, where somebody else may have pushed it on; -1 where nobody has.
        """
        step = max(step, self.step, counter)
        if step == self.step and any(
            key in self._values and not _same(self._values[key], value) for key, value in values.items()
        ):
            step += 1
        if step != self.step:
            self.step, self._values = step, {}
        self._values.update(values)


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)
