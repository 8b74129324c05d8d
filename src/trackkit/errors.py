"""Errors that the user can correct: each says what is wrong, the value, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Words that an error lists.
_LISTED = 40


class TrackKitError(Exception):
    """Base of every error that TrackKit raises on purpose."""


class ConfigError(TrackKitError, ValueError):
    """A setting that is unknown, of the wrong type, or not one of its choices."""


class SchemaError(TrackKitError, ValueError):
    """A logged name that `names: strict` refuses."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the nearest known word; the known words, at most 40, if none is near."""
    choices = sorted(known)
    if not choices:
        return "; none is known"
    more = f" and {len(choices) - _LISTED} more" if len(choices) > _LISTED else ""
    return nearest(word, choices) or f"; known: {', '.join(choices[:_LISTED])}{more}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the nearest known word; "" if none is near."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
