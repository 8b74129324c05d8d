"""Errors that the user can correct: each says what is wrong, the value, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrackKitError(Exception):
    """Base of every error that TrackKit raises on purpose."""


class ConfigError(TrackKitError, ValueError):
    """A setting that is unknown, of the wrong type, or not one of its choices."""


class SchemaError(TrackKitError, ValueError):
    """A logged name that `names: strict` refuses."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the nearest known word; the list of known words if none is near."""
    choices = sorted(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(choices)}"
