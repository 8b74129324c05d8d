"""Finds secrets among the values of the environment variables."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

from trackkit.redaction.named import names_secret
from trackkit.redaction.randomness import MIN_LENGTH, looks_random

_VARIABLES = re.compile(
    r"(?:^|_)(?:TOKEN|PASS|KEY_ID)$|PASSWORD|PASSWD|(?:^|_)(?:SECRET|PASSPHRASE|API_?KEY|CREDENTIAL)", re.IGNORECASE
)
_ORDINARY_VARIABLES = re.compile(
    r"_(?:FILE|PATH|DIR|NAME|HOST|PORT|TYPE|ARN|VERSION|STORE|HELPER)$|"
    r"(?:^|_)(?:PAD|EOS|BOS|UNK|SEP|CLS|MASK|IMAGE|AUDIO|VIDEO|USER|SYSTEM|ASSISTANT|START|END|STOP|MAX|NEW)_TOKEN$",
    re.IGNORECASE,
)


class _Environment:
    """Holds the secrets of the environment; searches it again only if a variable has changed, to keep logging fast."""

    def __init__(self) -> None:
        self._seen: dict[Any, Any] = {}
        self._secrets: list[str] = []

    def secrets(self) -> list[str]:
        # What `os.environ` reads from: comparing it takes a microsecond, reading every variable takes fifty.
        now = getattr(os.environ, "_data", os.environ)
        if now != self._seen:
            found = {value for name, value in os.environ.items() if _is_secret(name, value)}
            self._seen, self._secrets = dict(now), sorted(found, key=len, reverse=True)
        return self._secrets


secrets = _Environment().secrets


@lru_cache(maxsize=4096)
def _is_secret(name: str, value: str) -> bool:
    """Returns whether a variable is a secret whose value could not occur in another text by chance."""
    if len(value) < MIN_LENGTH or _ORDINARY_VARIABLES.search(name) or not looks_random(value):
        return False
    if name.upper().endswith("_KEY") and len(value) >= 2 * MIN_LENGTH:
        return True
    # Many such variables have the path of a file with the secret.
    return bool(_VARIABLES.search(name) or names_secret(name)) and not os.path.exists(value)
