"""Masks secrets in values, mappings and command lines before they are recorded."""

from __future__ import annotations

import os
import re
from typing import Any

from trackkit.redaction.named import is_placeholder
from trackkit.redaction.patterns import MASK, mask, mask_name, names_secret

__all__ = ["MASK", "is_secret", "redact", "redact_arguments", "slurm_has_secrets"]

_PASSWORD = re.compile(r"passw(?:or)?ds?$|passphrases?$|passcodes?$", re.IGNORECASE)
# `--token=x`, `--token`, and Hydra's `token=x`, `+trainer.token=x`.
_ARGUMENT = re.compile(
    r"^(?:--?(?=[\w\-.]+$)|-{0,2}\+{0,2}(?=[^=]+=))(?P<name>[\w\-.]+)(?:=(?P<value>.*))?$", re.DOTALL
)


def is_secret(name: str, value: Any) -> bool:
    """Returns whether a value looks like a secret, by its name or by itself."""
    if isinstance(value, str) and value and mask(value) != value:
        return True
    if isinstance(value, (str, bytes)):
        return bool(value) and names_secret(name) and not is_placeholder(name, value)
    # Command lines and YAML files turn a password of digits into a number.
    return isinstance(value, int) and not isinstance(value, bool) and bool(_PASSWORD.search(name))


def redact(name: str, value: Any) -> Any:
    """Returns `value` with secrets masked, in a copy of mappings and sequences.

    Args:
        name: of the value; each part of a path such as `credentials/db` may mark a secret.
        value: a JSON value.
    """
    if isinstance(value, dict):
        return {_key(key): redact(f"{name}/{key}", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if not names_secret(name) and all(isinstance(item, str) for item in value):
            return redact_arguments(list(value))
        return [redact(name, item) for item in value]
    if isinstance(value, str) and not names_secret(name):
        return mask(value)
    return MASK if is_secret(name, value) else value


def redact_arguments(arguments: list[str]) -> list[str]:
    """Returns a command line with the values of secret options masked: `--token=x` and `--token x`."""
    kept, mask_next = [], False
    for word in arguments:
        option = _ARGUMENT.match(word)
        secret = option is not None and names_secret(option["name"])
        given = "x" if option is None or option["value"] is None else option["value"].strip("\"'")
        if option is not None and is_placeholder(option["name"], given):
            secret = False
        if mask_next and not word.startswith("-"):
            kept.append(MASK)
        elif option is not None and secret and option["value"] is not None:
            kept.append(f"{word.split('=', 1)[0]}={MASK}")
        else:
            kept.append(mask(word))
        mask_next = option is not None and secret and option["value"] is None
    return kept


def slurm_has_secrets() -> bool:
    """Returns whether a SLURM_* variable is a secret, such as SLURM_JWT: W&B's metadata has them all."""
    return any(is_secret(name, value) for name, value in os.environ.items() if name.startswith("SLURM_"))


def _key(key: Any) -> Any:
    return mask_name(key) if isinstance(key, str) else key
