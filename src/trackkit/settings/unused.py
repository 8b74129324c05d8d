"""Says which settings have no effect in a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from trackkit.notices import say_once
from trackkit.settings.config import TrackKitConfig


def say_unused(setting: str, why: str) -> None:
    """Logs, once per process, that a setting has no effect.

    Args:
        setting: its name.
        why: the reason, as a sentence without its end.
    """
    say_once("%s.", unused_text(setting, why), level=logging.WARNING)


def unused_text(setting: str, why: str) -> str:
    """Returns that a setting has no effect, as a sentence without its end."""
    return f"The setting '{setting}' has no effect: {why}"


def report_unused(settings: TrackKitConfig, unused: Mapping[str, str]) -> None:
    """Says which of the settings that were given have no effect.

    Args:
        settings: as they were given.
        unused: name of each setting that would have no effect, and why.
    """
    defaults = TrackKitConfig()
    for name, why in unused.items():
        if getattr(settings, name) != getattr(defaults, name):
            say_unused(name, why)
