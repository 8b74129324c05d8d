"""Names of collections: letters, digits, `-`, `_` and `.`, at most 128."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping

LONGEST = 128
FIELDS = ("name", "run_id", "group", "series")
DEFAULT = "model-{name}"

_OTHER = re.compile(r"[^A-Za-z0-9_.-]+")


def collection(template: str | None, values: Mapping[str, str]) -> str:
    """Returns the name of a collection.

    The series is added at the end, unless the template has it. A name that is cut, or of which nothing is left, gets a
    hash of what it was, so that two of them differ.

    Args:
        template: with fields from `FIELDS`; None for the default.
        values: of the fields.
    """
    template = template or DEFAULT
    text = string.Formatter().vformat(template, (), values)
    if values.get("series") and "{series}" not in template:
        text += "-" + values["series"]
    name = _OTHER.sub("-", text).strip("-.")
    lost = sum(1 for letter in text if letter.isalnum() and not letter.isascii())
    if lost or len(name) > LONGEST or not name:
        mark = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:6]
        name = f"{name[: LONGEST - 7]}-{mark}".strip("-")
    return name


def is_ours(alias: str) -> bool:
    """Returns whether TrackKit sets an alias of this name itself: it does not hold a version."""
    return alias in ("latest", "best", "was-best") or is_step(alias)


def is_step(alias: str) -> bool:
    """Returns whether an alias is `step-N`, which protects no version; the user's own `step-final` does."""
    return re.fullmatch(r"step-\d+", alias) is not None


def check_alias(alias: str) -> None:
    """Checks an alias that a promotion is to give.

    Raises:
        ValueError: W&B or TrackKit uses it itself, or W&B does not take it.
    """
    if is_ours(alias) or re.fullmatch(r"v\d+", alias):
        raise ValueError(f"the alias {alias!r} is set by TrackKit or W&B itself; choose another, such as 'production'")
    if not alias.strip() or set(alias) & set("/:"):
        raise ValueError(f"an alias must be a word without '/' and ':'; got {alias!r}")


def check_template(template: str) -> None:
    """Checks a template.

    Raises:
        ValueError: it has a field that is unknown, or can't be parsed.
    """
    for _, field, _, _ in string.Formatter().parse(template):
        if field is not None and field not in FIELDS:
            known = ", ".join(f"{{{each}}}" for each in FIELDS)
            raise ValueError(f"'name' has the unknown field {{{field}}}; known are {known}")
