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


def check_template(template: str) -> None:
    """Checks a template.

    Raises:
        ValueError: it has a field that is unknown, or can't be parsed.
    """
    for _, field, _, _ in string.Formatter().parse(template):
        if field is not None and field not in FIELDS:
            known = ", ".join(f"{{{each}}}" for each in FIELDS)
            raise ValueError(f"'name' has the unknown field {{{field}}}; known are {known}")
