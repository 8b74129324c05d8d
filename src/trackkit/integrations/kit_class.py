"""The TrackKit class, for integrations: `trackkit.kit` imports them, so they can't import it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

path = ""
"""`module:Class`; set by `bases.install`."""


def load(path: str) -> Any:
    """Returns the object that `module:name` names, importing its module."""
    from importlib import import_module

    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def kit_class() -> Any:
    """Returns the TrackKit class, importing its module."""
    return load(path)
