"""Loads TrackKit's own classes by name, so that nothing is imported before it is used.

`trackkit.kit` imports integrations, so these can't import it: they ask here for the TrackKit class.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_kit = ""


def load(path: str) -> Any:
    """Returns the object that `module:name` names, importing its module."""
    from importlib import import_module

    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def set_kit(path: str) -> None:
    """Notes where the TrackKit class is, as `module:name`."""
    global _kit
    _kit = path


def kit_class() -> Any:
    """Returns the TrackKit class, importing its module."""
    return load(_kit)
