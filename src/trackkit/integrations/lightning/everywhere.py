"""Adds TrackKit to every Lightning trainer that has none: through Lightning's entry points for callbacks.

Nothing is installed for it: a finder answers importlib.metadata's question for distributions, in this process only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import Distribution
from types import ModuleType
from typing import Any

from trackkit.integrations.everywhere import everywhere_class, is_recorded
from trackkit.integrations.lightning import _compat

NAME = "trackkit-everywhere"
_FILES = {
    "METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 0\n",
    "entry_points.txt": "".join(
        f"[{package}.callbacks_factory]\ntrackkit = {__name__}:factory\n"
        for package in ("lightning.pytorch", "pytorch_lightning")
    ),
}


class _Entry(Distribution):
    """A distribution that exists in memory only."""

    def read_text(self, filename: str) -> str | None:
        return _FILES.get(filename)

    def locate_file(self, path: Any) -> Any:
        raise FileNotFoundError(path)


class _Finder:
    """Adds the distribution to those that `importlib.metadata` finds."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> None:
        """Finds no module."""

    @staticmethod
    def find_distributions(context: Any) -> Iterable[Distribution]:
        """Returns the distribution, unless another one is asked for."""
        return [_Entry()] if context.name in (None, NAME) else []


def install(module: ModuleType) -> None:
    """Makes every trainer that is built from now on call `factory`."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)


def factory() -> list[Any]:
    """Returns the callback for the trainer that is being built; none if it has a TrackKit already."""
    return [] if is_recorded(_compat.callbacks_of_new_trainer()) else [everywhere_class()()]
